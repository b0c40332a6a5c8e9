//! The import from the report server itself: a login for each user, or the bridge's account.

use std::collections::BTreeSet;

use anyhow::{Context as _, anyhow, bail};
use fanfare_app::Context;
use fanfare_app::webhooks::{Entry, EntryPosition, Plan};
use fanfare_bridge::api::{Api, Credentials};
use fanfare_bridge::takeover::{Found, Login, Takeover, pause};
use fanfare_core::name::Name;
use serde::Deserialize;
use serde_json::Value;

use super::{ImportArgs, advice, carry_out, plan, shown};
use crate::input;
use crate::output::{self, Misuse};
use crate::settings::Settings;
use crate::wiring;

/// A line of the file of logins.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Line {
    user: String,
    password: Option<String>,
    token: Option<String>,
}

/// Reads the webhooks, and imports those that can be.
pub(super) async fn import(
    args: &ImportArgs,
    context: &Context,
    settings: &Settings,
) -> anyhow::Result<()> {
    if args.pause_old && settings.sending.shadow {
        let text = "Fanfare is in shadow mode and sends nothing, so that nobody would send if the old \
                    webhooks were paused; first set FANFARE_SHADOW=off for all processes";
        return Err(Misuse(text.to_owned()).into());
    }
    let (logins, takeover) = read(args, settings).await?;
    let entries: Vec<String> = takeover.found.iter().map(entry).collect();
    let entries: Vec<Entry<'_>> = entries.iter().map(|json| Entry { line: 1, json }).collect();
    let plan = plan(args, context, settings, &entries).await?;
    for (what, why) in &takeover.refused {
        note(&format!("{what}: {why}"));
    }
    if takeover.is_partial {
        note(
            "the report server lists the webhooks of the bridge's account alone, and not those of \
             other users; give --logins FILE, or import a file",
        );
    }
    let name = |place: EntryPosition| {
        let found = place.number().checked_sub(1).and_then(|index| takeover.found.get(index));
        found.map_or_else(|| place.to_string(), |it| format!("{} of {}", it.hook.id, it.owner))
    };
    if args.dry_run {
        return output::print(&shown(&plan, name));
    }
    for (place, error) in &plan.wrong {
        note(&format!("{}: {error}{}", name(*place), advice(error)));
    }
    let refused = takeover.refused.len() + plan.wrong.len();
    if refused > 0 && !args.skip_wrong {
        bail!("{refused} can't be imported; nothing was; --skip-wrong imports the others");
    }
    let here = numbers(&plan);
    carry_out(context, plan).await?;
    if args.pause_old {
        let here = takeover.found.iter().zip(1..).filter(|(_, number)| here.contains(number));
        pause_all(&logins, here.map(|(found, _)| found)).await?;
    } else {
        note(
            "the report server still sends to the webhooks that are active there; --pause-old pauses \
             them",
        );
    }
    Ok(())
}

async fn read(args: &ImportArgs, settings: &Settings) -> anyhow::Result<(Vec<Login>, Takeover)> {
    let bridge = settings.bridge.url().ok();
    if let Some(file) = &args.logins {
        let logins = logins(file, settings)?;
        let takeover = Takeover::of_logins(&logins, bridge).await;
        return Ok((logins, takeover));
    }
    let user = settings.bridge.account()?.clone();
    let login = Login { user, api: wiring::report_server(settings)? };
    let takeover = Takeover::of_administrator(&login, bridge).await;
    Ok((vec![login], takeover))
}

fn logins(file: &str, settings: &Settings) -> anyhow::Result<Vec<Login>> {
    let text = input::read(file)?;
    let server = settings.bridge.server()?;
    let login = |entry: input::Entry<'_>| {
        // The error must not show the line, which has a password.
        let wrong = || {
            let line = entry.line;
            anyhow!(
                "line {line} of {} is no login; give {{\"User\":\"…\",\"Password\":\"…\"}} or \
                 {{\"User\":\"…\",\"Token\":\"…\"}}",
                input::shown(file)
            )
        };
        let line: Line = serde_json::from_str(entry.raw.get()).map_err(|_| wrong())?;
        let name = Name::parse(&line.user).ok_or_else(wrong)?;
        let credentials = match (line.password, line.token) {
            (Some(password), None) => Credentials::Password { user: line.user, password },
            (None, Some(token)) => Credentials::PersonalToken(token),
            _ => return Err(wrong()),
        };
        let api = Api::new(wiring::USER_AGENT, server, credentials);
        let api = api.context("failed to make the HTTP client of the report server")?;
        Ok(Login { user: name, api })
    };
    let logins = input::entries(&text)?.into_iter().map(login);
    let logins: Vec<Login> = logins.collect::<anyhow::Result<_>>()?;
    let names: BTreeSet<&Name> = logins.iter().map(|login| &login.user).collect();
    if names.len() < logins.len() {
        bail!("a user is twice in {}; give each once", input::shown(file));
    }
    Ok(logins)
}

/// The webhook with its owner, in the form of the API.
fn entry(found: &Found) -> String {
    let mut members = found.hook.members.clone();
    members.insert("user".to_owned(), Value::from(found.owner.as_str()));
    Value::Object(members).to_string()
}

/// The numbers of the entries that are here when the plan is carried out.
fn numbers(plan: &Plan) -> BTreeSet<usize> {
    let new = plan.new.iter().map(|(place, _)| place.number());
    new.chain(plan.known.iter().map(|place| place.number())).collect()
}

async fn pause_all(logins: &[Login], found: impl Iterator<Item = &Found>) -> anyhow::Result<()> {
    let (mut paused, mut failed) = (0, 0);
    for it in found.filter(|it| !it.hook.is_paused) {
        match pause(logins, it).await {
            Ok(()) => paused += 1,
            Err(why) => {
                failed += 1;
                let (id, owner) = (&it.hook.id, &it.owner);
                note(&format!("{id} of {owner} is not paused at the report server: {why}"));
            }
        }
    }
    output::print(&format!("paused {paused} at the report server\n"))?;
    if failed > 0 {
        bail!(
            "{failed} are still active at the report server; pause them there, or run this again"
        );
    }
    Ok(())
}

fn note(text: &str) {
    output::note(&format!("fanfare: {}", output::plain(text)));
}
