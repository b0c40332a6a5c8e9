//! The JSON forms, for the console's API and for `fanfare … --json`.

pub mod audit;
pub mod dead_letter;
pub mod dead_letter_group;
pub mod delivery;
pub mod event;
pub mod explanation;
pub mod mended;
pub mod notice;
pub mod operation;
pub mod parity;
pub mod storage;
pub mod webhook;
