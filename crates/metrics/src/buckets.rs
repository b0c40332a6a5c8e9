//! The bounds of histograms: sizes in items, times in seconds.

/// Items in one batch.
pub(crate) const SIZES: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// Statements and batches: normally milliseconds.
pub(crate) const STATEMENTS: [f64; 13] =
    [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// POSTs, which are limited by a time-out.
pub(crate) const ATTEMPTS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0];

/// The time from an event to its delivery: from milliseconds to three days.
pub(crate) const LATENCIES: [f64; 17] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1_800.0, 7_200.0,
    43_200.0, 259_200.0,
];

/// The delays of retries.
pub(crate) const RETRIES: [f64; 10] =
    [1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0, 7_200.0, 21_600.0, 43_200.0, 86_400.0];
