//! `fanfare secrets`: manages the keys that encrypt the webhooks' secrets.

use anyhow::bail;
use fanfare_core::ids::WebhookId;
use fanfare_store::webhooks::{KeyUse, Resealed};
use fanfare_store::{Store, StoreError};

use crate::output;
use crate::settings::Settings;
use crate::wiring;

/// The number of secrets in one transaction. An interrupted transaction undoes little, and its locks
/// on webhooks are short.
const BATCH: i64 = 500;

/// The commands about secrets.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Encrypt all secrets with the first key of `FANFARE_SECRET_KEYS`, so that the other keys can be
    /// removed
    RotateKeys(RotateArgs),
}

/// The arguments of `fanfare secrets rotate-keys`.
#[derive(Debug, clap::Args)]
pub(crate) struct RotateArgs {
    /// Only print what would be done
    #[arg(long)]
    dry_run: bool,
}

/// Runs a command about secrets.
pub(crate) async fn run(command: Command, settings: &Settings) -> anyhow::Result<()> {
    match command {
        Command::RotateKeys(args) => rotate(&args, settings).await,
    }
}

async fn rotate(args: &RotateArgs, settings: &Settings) -> anyhow::Result<()> {
    let ring: Vec<String> = settings.keys()?.into_iter().map(|(id, _)| id).collect();
    let store = wiring::store(settings, "secrets")?;
    let first = store.sealing_key();
    let remaining = others(&store.secrets_by_key().await?, first);
    if args.dry_run {
        return output::print(&plan(&store.secrets_by_key().await?, first, &ring));
    }
    let failed = reseal(&store, remaining).await?;
    for (webhook, error) in &failed {
        output::note(&format!("webhook {webhook}: {}", output::plain(&error.chain())));
    }
    // Counted again, because a process with other keys may have sealed a secret meanwhile.
    output::print(&outcome(&store.secrets_by_key().await?, first, &ring))?;
    match failed.len() {
        0 => Ok(()),
        n => bail!(
            "{n} secrets could not be decrypted and were not changed; put the missing keys back into \
             FANFARE_SECRET_KEYS and run this again, or delete these webhooks"
        ),
    }
}

/// Seals the secrets batch by batch. Each batch is one transaction, so that this can be interrupted
/// and run again. Returns the secrets that could not be opened.
async fn reseal(store: &Store, total: u64) -> Result<Vec<(WebhookId, StoreError)>, StoreError> {
    let (mut after, mut done, mut failed) = (None, 0, Vec::new());
    loop {
        let Resealed { next, done: n, failed: these } = store.secrets_reseal(after, BATCH).await?;
        done += n;
        failed.extend(these);
        if next.is_none() {
            return Ok(failed);
        }
        output::note(&format!("{done} of {total} secrets encrypted again"));
        after = next;
    }
}

/// The number of secrets that other keys seal.
fn others(uses: &[KeyUse], first: &str) -> u64 {
    uses.iter().filter(|one| one.key != first).map(|one| one.webhooks).sum()
}

fn plan(uses: &[KeyUse], first: &str, ring: &[String]) -> String {
    let mut lines = vec![format!("new secrets are encrypted with the key {first}\n")];
    for KeyUse { key, webhooks } in uses {
        let what = match (key == first, ring.contains(key)) {
            (true, _) => "stay unchanged",
            (false, true) => "would be encrypted again",
            (false, false) => "can't be decrypted: FANFARE_SECRET_KEYS does not contain the key",
        };
        lines.push(format!("{key}: the secrets of {webhooks} webhooks {what}\n"));
    }
    lines.concat()
}

fn outcome(uses: &[KeyUse], first: &str, ring: &[String]) -> String {
    let sealed = uses.iter().find(|one| one.key == first).map_or(0, |one| one.webhooks);
    let mut lines = vec![format!("the key {first} encrypts the secrets of {sealed} webhooks\n")];
    let is_needed = |id: &String| uses.iter().any(|one| one.key == *id);
    let (needed, free): (Vec<&String>, Vec<&String>) =
        ring.iter().filter(|id| *id != first).partition(|id| is_needed(id));
    for id in needed {
        lines.push(format!("the key {id} is still needed; run this again\n"));
    }
    for id in free {
        lines.push(format!(
            "the key {id} encrypts nothing any more: remove it from FANFARE_SECRET_KEYS when every \
             process has {first} as its first key, and keep a copy as long as older backups\n"
        ));
    }
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(uses: &[(&str, u64)]) -> Vec<KeyUse> {
        let one =
            |(key, webhooks): &(&str, u64)| KeyUse { key: (*key).to_owned(), webhooks: *webhooks };
        uses.iter().map(one).collect()
    }

    #[test]
    fn outcome_names_the_keys_that_can_be_removed() {
        let ring = ["new", "old", "older"].map(str::to_owned);
        let text = outcome(&uses(&[("new", 3), ("old", 1)]), "new", &ring);
        assert!(text.contains("the key new encrypts the secrets of 3 webhooks"), "{text}");
        assert!(text.contains("the key old is still needed"), "{text}");
        assert!(text.contains("the key older encrypts nothing any more"), "{text}");
    }

    #[test]
    fn plan_names_the_keys_that_are_missing() {
        let text = plan(&uses(&[("new", 3), ("gone", 1)]), "new", &["new".to_owned()]);
        assert!(text.contains("new: the secrets of 3 webhooks stay"), "{text}");
        assert!(text.contains("gone: the secrets of 1 webhooks can't be decrypted"), "{text}");
    }
}
