//! Which dead letters a command is about.

use fanfare_broker::Queue;
use fanfare_broker::dead_letters::DeadLetter;
use fanfare_core::ids::WebhookId;

use super::show;
use crate::commands::ids;

/// Which dead letters: all, unless something narrows it.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Choice {
    /// Only of this queue
    #[arg(long, value_name = "QUEUE")]
    queue: Option<QueueName>,
    /// Only with this reason, such as unknown-filter or exhausted
    #[arg(long, value_name = "R")]
    reason: Option<String>,
    /// Only of this webhook
    #[arg(long, value_name = "ID", value_parser = ids::parse::<WebhookId>)]
    webhook: Option<WebhookId>,
}

/// A dead letter queue, as it is called on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum QueueName {
    /// Events and directory documents
    Events,
    /// Deliveries
    Deliveries,
}

impl QueueName {
    /// The queue.
    pub(super) fn queue(self) -> Queue {
        match self {
            Self::Events => Queue::EventsDead,
            Self::Deliveries => Queue::DeliveriesDead,
        }
    }

    /// Its name on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Deliveries => "deliveries",
        }
    }
}

impl Choice {
    /// The queues to look through.
    pub(super) fn queues(&self) -> impl Iterator<Item = QueueName> + use<> {
        let only = self.queue;
        [QueueName::Events, QueueName::Deliveries]
            .into_iter()
            .filter(move |queue| only.is_none_or(|only| only == *queue))
    }

    /// Whether a letter is one of them, its queue apart.
    pub(super) fn takes(&self, letter: &DeadLetter) -> bool {
        let reason = self.reason.as_ref().is_none_or(|reason| letter.reason == *reason);
        reason && self.webhook.is_none_or(|webhook| show::webhook(letter) == Some(webhook))
    }

    /// Whether it says more than a queue.
    pub(super) fn narrows(&self) -> bool {
        self.reason.is_some() || self.webhook.is_some()
    }
}
