//! The program: sets up the process, then hands over to the command line.

use std::process::ExitCode;
use understudy::simulate::meter::Metered;
use understudy::{cli, system};

/// Metered for `simulate parsers`; otherwise one relaxed load per allocation.
#[global_allocator]
static ALLOCATOR: Metered<mimalloc::MiMalloc> = Metered(mimalloc::MiMalloc);

fn main() -> ExitCode {
    single_threaded_matrices();
    cli::run(cli::host::Host { start: system::start, serve: system::serve })
}

/// One request must not occupy every core: candle's matrix kernels take their thread count from
/// this variable when they first run, so it is set before any thread exists.
#[allow(unsafe_code)]
fn single_threaded_matrices() {
    if std::env::var_os("RAYON_NUM_THREADS").is_none() {
        // SAFETY: `main` has started no thread yet, so nothing reads the environment meanwhile.
        unsafe { std::env::set_var("RAYON_NUM_THREADS", "1") };
    }
}
