//! The `gracefork` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    gracefork::run::run()
}
