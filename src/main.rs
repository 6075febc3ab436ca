//! The `ait-node` program: nothing but the way into [`ait_node::cli`].

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    ait_node::cli::main()
}
