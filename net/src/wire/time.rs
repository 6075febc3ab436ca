//! Milliseconds since 1970 as RFC 3339 text. No clock is read here.

use ait_engine::types::TimestampMs;

const DAY_MS: u64 = 86_400_000;

/// The time as `2026-01-29T10:20:00.123+00:00`.
#[must_use]
pub fn rfc3339(time: TimestampMs) -> String {
    let (year, month, day) = civil(time.get() / DAY_MS);
    let ms = time.get() % DAY_MS;
    let (hour, minute) = (ms / 3_600_000, ms / 60_000 % 60);
    let (second, milli) = (ms / 1_000 % 60, ms % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}+00:00")
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar.
///
/// Years begin in March here, so that the leap day is the last one of its year.
#[expect(
    clippy::arithmetic_side_effects,
    reason = "a time ends with year 9999, so that there are fewer than 2^22 days"
)]
const fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_known_instants() {
        let at = |ms| rfc3339(TimestampMs::saturating(ms));
        assert_eq!(at(0), "1970-01-01T00:00:00.000+00:00");
        assert_eq!(at(951_782_400_123), "2000-02-29T00:00:00.123+00:00");
        assert_eq!(at(1_769_682_000_000), "2026-01-29T10:20:00.000+00:00");
        assert_eq!(at(4_107_542_399_999), "2100-02-28T23:59:59.999+00:00");
        assert_eq!(at(u64::MAX), "9999-12-31T23:59:59.999+00:00");
    }
}
