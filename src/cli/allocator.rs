//! The setting of the system's allocator that a server needs. It is read from the environment when a process begins.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// What is larger than this is given back to the system when it is freed. Without it glibc raises the threshold with every
/// large request or answer, and keeps several times the memory budget in the holes between smaller things.
const MMAP_THRESHOLD: (&str, &str) = ("MALLOC_MMAP_THRESHOLD_", "131072");

/// Begins this process again with the setting, if the environment does not have it. Process id, files and arguments stay.
/// Returns when there is nothing to do, or when it cannot be done: then the server takes more memory.
pub(super) fn settle() {
    let (name, value) = MMAP_THRESHOLD;
    if !cfg!(target_env = "gnu") || std::env::var_os(name).is_some() {
        return;
    }
    if let Ok(program) = std::env::current_exe() {
        let mut arguments = std::env::args_os();
        let own_name = arguments.next().unwrap_or_else(|| program.clone().into_os_string());
        let _ = Command::new(program)
            .arg0(own_name)
            .args(arguments)
            .env(name, value)
            .exec();
    }
}
