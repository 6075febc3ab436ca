//! The node's program.
//!
//! Nothing but the call into the library belongs here.

fn main() -> std::process::ExitCode {
    ait_node::cli::main()
}
