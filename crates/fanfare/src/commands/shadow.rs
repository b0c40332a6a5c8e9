//! `fanfare shadow`: commands about shadow mode, in which nothing is sent.

use anyhow::{anyhow, bail};
use chrono::{DateTime, TimeDelta, Utc};
use fanfare_app::json::parity::json;
use fanfare_app::shadow::{self, Explained, Parity, Wanted};
use fanfare_app::{Context, clock};
use fanfare_core::duration;
use fanfare_core::ids::WebhookId;
use fanfare_core::parity::{Key, Post, RecordLine};

use super::ids;
use crate::input;
use crate::operator::operator;
use crate::output;
use crate::settings::Settings;
use crate::table;
use crate::wiring;

/// The commands about shadow mode.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Compare what Fanfare sends, or would send in shadow mode, with what receivers got from another
    /// server; exits with 1 if something differs
    Compare(CompareArgs),
}

/// The arguments of `fanfare shadow compare`.
#[derive(Debug, clap::Args)]
pub(crate) struct CompareArgs {
    /// The POSTs that receivers got from the other server, as `fanfare listen --record` writes them:
    /// one JSON object a line with time, url, headers and body; `-` for stdin
    #[arg(long, value_name = "FILE")]
    received: String,
    /// Compare this webhook; may be given more than once [default: those that the POSTs were for]
    #[arg(long = "webhook", value_name = "ID", value_parser = ids::parse::<WebhookId>)]
    webhooks: Vec<WebhookId>,
    /// Compare from this time on, such as 2026-11-30T08:00:00Z [default: the first line's]
    #[arg(long, value_name = "TIME")]
    from: Option<DateTime<Utc>>,
    /// Compare until this time [default: the last line's]
    #[arg(long, value_name = "TIME")]
    to: Option<DateTime<Utc>>,
    /// How far apart the times of a notification may be here and there
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = window)]
    window: TimeDelta,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

fn window(text: &str) -> Result<TimeDelta, String> {
    let window = duration::parse(text).and_then(|time| TimeDelta::from_std(time).ok());
    let window = window.filter(|it| *it <= TimeDelta::days(1));
    window.ok_or_else(|| "give a duration such as 30s or 10m, of at most a day".to_owned())
}

/// Runs a command about shadow mode.
pub(crate) async fn run(command: Command, settings: &Settings) -> anyhow::Result<()> {
    let context = wiring::context(settings, "shadow")?;
    match command {
        Command::Compare(args) => compare(args, &context).await,
    }
}

async fn compare(args: CompareArgs, context: &Context) -> anyhow::Result<()> {
    let Record { posts, from, to, others } = read(&args.received)?;
    if others > 0 {
        let name = input::shown(&args.received);
        output::note(&format!("fanfare: {others} lines of {name} are no POSTs to webhooks"));
    }
    let (from, to) = (args.from.unwrap_or(from), args.to.unwrap_or(to));
    let wanted = Wanted { posts, webhooks: args.webhooks, from, to, window: args.window };
    let parity = shadow::parity(context, &operator(), wanted).await?;
    if args.json {
        output::print_json(&json(&parity))?;
    } else {
        output::print(&text(&parity, (from, to)))?;
    }
    match parity.differences.len() {
        0 if parity.there == 0 && parity.here == 0 => {
            bail!("there is nothing to compare: no notification came in this time, here or there")
        }
        0 => Ok(()),
        1 => bail!("there is one difference"),
        count => bail!("there are {count} differences"),
    }
}

/// A record of what receivers got.
struct Record {
    posts: Vec<Post>,
    /// The times of the first and the last line.
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    /// The number of lines with a body that is none of a POST to a webhook.
    others: usize,
}

fn read(file: &str) -> anyhow::Result<Record> {
    let text = input::read(file)?;
    let (mut posts, mut times, mut others) = (Vec::new(), Vec::new(), 0);
    for entry in input::entries(&text)? {
        let line: RecordLine = serde_json::from_str(entry.raw.get()).map_err(|error| {
            let (line, name) = (entry.line, input::shown(file));
            anyhow!(
                "line {line} of {name} has not the form {{\"time\":\"…\",\"url\":\"…\",\
                 \"headers\":{{…}},\"body\":\"…\"}}: {error}"
            )
        })?;
        times.push(line.time);
        match Post::of(line) {
            Ok(post) => posts.extend(post),
            Err(_) => others += 1,
        }
    }
    let (Some(from), Some(to)) = (times.iter().min(), times.iter().max()) else {
        bail!("{} is empty; record with `fanfare listen --record FILE`", input::shown(file));
    };
    Ok(Record { posts, from: *from, to: *to, others })
}

const HEADINGS: [&str; 7] = ["TIME", "WHAT", "WEBHOOK", "OWNER", "EVENT", "REASON", "WHY"];

fn text(parity: &Parity, (from, to): (DateTime<Utc>, DateTime<Utc>)) -> String {
    let Parity { webhooks, there, here, same, differences } = parity;
    let summary = format!(
        "{webhooks} webhooks from {} to {}: {there} notifications there, {here} here, {same} the \
         same\n",
        clock::rfc3339(from),
        clock::rfc3339(to),
    );
    if differences.is_empty() {
        return format!("{summary}nothing differs\n");
    }
    format!("{summary}\n{}", table::render(&HEADINGS, differences.iter().map(row)))
}

fn row(explained: &Explained) -> [String; HEADINGS.len()] {
    let it = &explained.difference;
    let key = it.what.key();
    let shown = key.map(|Key { event_type, resource }| format!("{event_type} {resource}"));
    [
        clock::rfc3339(it.at),
        it.what.code().to_owned(),
        table::or_dash(it.webhook),
        table::or_dash(explained.owner.as_ref()),
        table::or_dash(shown),
        table::or_dash(explained.reason.as_ref()),
        explained.detail.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_at_most_a_day() {
        assert_eq!(window("30s"), Ok(TimeDelta::seconds(30)));
        assert_eq!(window("24h"), Ok(TimeDelta::days(1)));
        for wrong in ["25h", "-1s", "10", ""] {
            assert!(window(wrong).is_err(), "{wrong}");
        }
    }
}
