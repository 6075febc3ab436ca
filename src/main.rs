//! The `ait-node` program: nothing but the way into [`ait_node::cli`].

fn main() -> std::process::ExitCode {
    ait_node::cli::main()
}
