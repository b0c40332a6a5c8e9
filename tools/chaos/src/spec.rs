//! The processes of the installation.

/// A process of the installation, by its place in [`PROCESSES`].
pub(crate) type ProcessIndex = usize;

/// A process of the installation.
pub(crate) struct Spec {
    pub(crate) name: &'static str,
    /// Its command.
    pub(crate) role: &'static str,
}

/// The processes.
pub(crate) const PROCESSES: [Spec; 6] = [
    Spec { name: "router-1", role: "router" },
    Spec { name: "router-2", role: "router" },
    Spec { name: "worker-1", role: "worker" },
    Spec { name: "worker-2", role: "worker" },
    Spec { name: "worker-3", role: "worker" },
    Spec { name: "console", role: "console" },
];

/// Whether a process runs with a clock that can be stepped. The library that does it slows a process
/// down, so one of each kind has it.
pub(crate) fn has_own_clock(at: ProcessIndex) -> bool {
    matches!(PROCESSES[at].name, "router-2" | "worker-3")
}
