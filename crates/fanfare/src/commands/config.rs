//! `fanfare config`: prints the settings and the source of each value.

use serde_json::{Value, json};

use crate::output;
use crate::settings::{Resolved, Settings, Source};
use crate::table;

/// The arguments of `fanfare config`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

/// Prints the settings; secrets are masked.
pub(crate) fn run(args: &Args, settings: &Settings) -> anyhow::Result<()> {
    let rows: Vec<Row> = settings.resolved.iter().map(|one| row(one, settings)).collect();
    if args.json {
        return output::print_json(&rows.iter().map(Row::to_json).collect::<Vec<_>>());
    }
    let table = rows.iter().map(Row::cells);
    output::print(&table::render(&["SETTING", "VALUE", "FROM"], table))
}

/// A setting, for printing.
struct Row<'a> {
    resolved: &'a Resolved,
    value: Option<String>,
    source: String,
}

fn row<'a>(resolved: &'a Resolved, settings: &Settings) -> Row<'a> {
    let source = match (&resolved.value, &resolved.source, settings.key_file()) {
        (None, Source::Default, Some(path)) if resolved.setting.key() == "secret_keys" => {
            format!("default, the key file {}", path.display())
        }
        (None, Source::Default, _) => "not set".to_owned(),
        (_, source, _) => source.name(&resolved.setting),
    };
    Row { resolved, value: resolved.shown(), source }
}

impl Row<'_> {
    fn to_json(&self) -> Value {
        let setting = &self.resolved.setting;
        json!({
            "name": setting.name(),
            "flag": format!("--{}", setting.flag()),
            "key": setting.key(),
            "value": self.value,
            "from": self.source,
            "default": setting.default(),
            "description": setting.about(),
        })
    }

    fn cells(&self) -> [String; 3] {
        let value = self.value.as_deref().filter(|text| !text.is_empty()).unwrap_or("-");
        [self.resolved.setting.name(), value.to_owned(), self.source.clone()]
    }
}
