//! The program: words in, words and an exit code out. Everything else is in the library.

fn main() -> std::process::ExitCode {
    orch::cli::main()
}
