//! A page with plots that needs nothing beside itself.

use plotters::prelude::*;

use super::record::Second;
use super::{BenchError, Report};

const SIZE: (u32, u32) = (860, 260);
const COLOURS: [RGBColor; 2] = [RGBColor(31, 119, 180), RGBColor(214, 39, 40)];
/// Points of the curve of latencies.
const QUANTILES: u32 = 200;

/// The page of a report.
///
/// # Errors
/// [`BenchError::Page`] if a plot cannot be drawn.
pub fn html(report: &Report) -> Result<String, BenchError> {
    let seconds = &report.record.seconds;
    let series = |value: fn(&Second) -> f64| {
        let points = (1_u32..).zip(seconds).map(|(at, second)| (f64::from(at), value(second)));
        points.collect::<Vec<_>>()
    };
    let finals = &report.record.finals;
    let quantiles: Vec<(f64, f64)> = (0..=QUANTILES)
        .map(|at| f64::from(at) / f64::from(QUANTILES))
        .map(|share| (share * 100.0, finals.quantile_ms(share)))
        .collect();
    #[expect(clippy::cast_precision_loss, reason = "a plot")]
    let throughput =
        lines("second", "final a second", &[("", series(|second| second.finals as f64))])?;
    let over_time =
        [("p50", series(|second| second.p50_ms)), ("p99", series(|second| second.p99_ms))];
    let over_time = lines("second", "ms to final", &over_time)?;
    let distribution = lines("% of transactions", "ms to final", &[("", quantiles)])?;
    let text: String = report.lines().iter().map(|line| escape(line) + "\n").collect();
    let object = escape(&format!("{:#}", report.object()));
    Ok(format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>ait-node bench</title>
<style>body{{font:15px/1.5 sans-serif;max-width:54rem;margin:2rem auto;padding:0 1rem}}
pre{{overflow-x:auto;background:#f4f4f4;padding:1rem}}svg{{max-width:100%;height:auto}}
td{{padding:.1rem .6rem}}.bar{{background:#1f77b4;height:1rem}}</style>
<h1>ait-node bench</h1><pre>{text}</pre>
<h2>Throughput</h2>{throughput}
<h2>Latency, second by second</h2>{over_time}
<h2>Latency of all</h2>{distribution}
<h2>Stages</h2>{}
<h2>All figures</h2><pre>{object}</pre></html>
",
        stages(report)
    ))
}

fn stages(report: &Report) -> String {
    let rows: String = report
        .stages
        .iter()
        .map(|(name, busy)| {
            let of_a_core = busy / report.seconds * 100.0;
            let width = of_a_core.clamp(0.0, 200.0) * 2.0;
            let name = escape(name);
            format!(
                "<tr><td>{name}<td>{of_a_core:.1} % of a core<td><div class=bar style=width:{width:.0}px></div>"
            )
        })
        .collect();
    format!("<table>{rows}</table>")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// Lines over the same axes, as SVG.
fn lines(across: &str, up: &str, series: &[(&str, Vec<(f64, f64)>)]) -> Result<String, BenchError> {
    let mut svg = String::new();
    draw(&mut svg, across, up, series).map_err(|error| BenchError::Page(error.to_string()))?;
    Ok(svg)
}

fn draw(
    svg: &mut String,
    across: &str,
    up: &str,
    series: &[(&str, Vec<(f64, f64)>)],
) -> Result<(), Box<dyn std::error::Error>> {
    let points = || series.iter().flat_map(|(_, points)| points);
    let most = |values: &mut dyn Iterator<Item = f64>| values.fold(1.0_f64, f64::max);
    let (width, height) = (most(&mut points().map(|p| p.0)), most(&mut points().map(|p| p.1)));
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    let mut chart = ChartBuilder::on(&root)
        .margin(8)
        .x_label_area_size(34)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..width, 0.0..height * 1.05)?;
    chart.configure_mesh().x_desc(across).y_desc(up).light_line_style(WHITE).draw()?;
    for ((name, points), colour) in series.iter().zip(COLOURS) {
        let line = chart.draw_series(LineSeries::new(points.iter().copied(), colour))?;
        if !name.is_empty() {
            let key = move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour);
            line.label(*name).legend(key);
        }
    }
    if series.iter().any(|(name, _)| !name.is_empty()) {
        chart.configure_series_labels().border_style(BLACK).background_style(WHITE).draw()?;
    }
    root.present()?;
    drop(chart);
    drop(root);
    Ok(())
}
