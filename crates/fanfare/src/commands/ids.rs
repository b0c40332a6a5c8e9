//! Ids on the command line.

use std::fmt::Debug;
use std::str::FromStr;

/// One or more ids.
#[derive(Debug, clap::Args)]
pub(crate) struct Ids<T: FromStr + Debug + Clone + Send + Sync + 'static> {
    /// Ids of 32 hex digits
    #[arg(required = true, value_name = "ID", value_parser = parse::<T>)]
    pub(crate) ids: Vec<T>,
}

pub(crate) fn parse<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "an id has 32 hex digits".to_owned())
}
