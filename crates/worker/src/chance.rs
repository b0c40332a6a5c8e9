//! Random numbers for spreading load.

/// A random number from 0 to 1, without a system call, because each delivery needs two. It is good
/// enough to spread load, and for nothing else.
pub(crate) fn chance() -> f64 {
    fastrand::f64()
}
