//! The actions that the audit trail names.

/// Declares the actions with their codes.
macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// What was done. Scripts rely on the codes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Action {
            $($(#[$doc])* $name,)*
        }

        impl Action {
            /// All actions.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable code.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                }
            }
        }
    };
}

actions! {
    /// A webhook was registered.
    WebhookCreated = "webhook.created",
    /// A webhook was imported with its id and its secret.
    WebhookImported = "webhook.imported",
    /// Properties of a webhook were changed.
    WebhookChanged = "webhook.changed",
    /// A webhook was paused, by a person or by the service.
    WebhookPaused = "webhook.paused",
    /// A webhook was resumed.
    WebhookResumed = "webhook.resumed",
    /// A webhook was deleted with its secrets.
    WebhookDeleted = "webhook.deleted",
    /// A webhook's secrets were shown to a person.
    WebhookSecretRevealed = "webhook.secret-revealed",
    /// The secrets of many webhooks were shown to an operator.
    WebhookSecretsListed = "webhook.secrets-listed",
    /// A webhook got another secret.
    WebhookSecretRotated = "webhook.secret-rotated",
    /// An owner chose the channels of notices about the own webhooks.
    NoticeSettingsChanged = "notice-settings.changed",
    /// A local account was added.
    AccountCreated = "account.created",
    /// A local account got another role; it has a new password, too.
    AccountChanged = "account.changed",
    /// A local account got another password.
    AccountPasswordChanged = "account.password-changed",
    /// A local account was disabled.
    AccountDisabled = "account.disabled",
    /// A local account was enabled again.
    AccountEnabled = "account.enabled",
    /// A local account was removed.
    AccountRemoved = "account.removed",
    /// A publisher account was added with an access token.
    PublisherAdded = "publisher.added",
    /// The access token of a publisher was revoked.
    PublisherRevoked = "publisher.revoked",
    /// A new series of attempts began for one delivery.
    DeliveryRetried = "delivery.retried",
    /// A person requested to send the dead deliveries of a webhook again.
    ResendBegun = "resend.begun",
    /// Such a request was cancelled.
    ResendCancelled = "resend.cancelled",
    /// A dead letter was replayed.
    DeadLetterReplayed = "dead-letter.replayed",
    /// A dead event was corrected by a person and published again.
    DeadLetterMended = "dead-letter.mended",
    /// A dead letter was removed for good.
    DeadLetterDiscarded = "dead-letter.discarded",
    /// An administrator began a bulk operation on dead letters.
    OperationBegun = "operation.begun",
    /// A bulk operation was paused.
    OperationPaused = "operation.paused",
    /// A bulk operation was resumed.
    OperationResumed = "operation.resumed",
    /// A bulk operation was cancelled.
    OperationCancelled = "operation.cancelled",
    /// A bulk operation has ended by itself.
    OperationEnded = "operation.ended",
    /// The dead letters that an operation discarded were restored.
    OperationUndone = "operation.undone",
    /// An erasure of payloads began.
    ErasureBegun = "erasure.begun",
    /// An erasure of payloads has ended.
    ErasureDone = "erasure.done",
    /// The directory was imported from a file.
    DirectoryImported = "directory.imported",
    /// Revisions of the directory that are far ahead were accepted.
    DirectoryRevisionAccepted = "directory.revision-accepted",
    /// Refused snapshots of the directory were accepted as missing.
    DirectoryRefusedAccepted = "directory.refused-accepted",
}

impl Action {
    /// The action with this code.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|action| action.code() == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_read_back_from_their_codes() {
        for action in Action::ALL {
            assert_eq!(Action::parse(action.code()), Some(*action));
        }
        assert_eq!(Action::parse("webhook.painted"), None);
    }
}
