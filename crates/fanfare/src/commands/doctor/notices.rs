//! The channels by which notices are sent to operators: whether each can be reached. Nothing is sent.

use fanfare_core::chain::chain;

use super::Report;
use crate::output;
use crate::settings::Settings;
use crate::wiring;

/// Runs the checks, for the channels that are set.
pub(super) async fn check(report: &mut Report, settings: &Settings) -> anyhow::Result<()> {
    let notices = match wiring::notices(settings) {
        Ok(notices) => notices,
        Err(error) => return report.wrong("notices", &output::explain(&error)),
    };
    if let Some(webhook) = &notices.webhook {
        let found = match webhook.check().await {
            Ok(()) => Ok("its server answers".to_owned()),
            Err(error) => Err(format!(
                "the address of FANFARE_NOTICES_URL can't be reached: {}; check the address, and set \
                 FANFARE_ALLOW_TARGETS if it is a private one",
                chain(&error)
            )),
        };
        report.add("notices by webhook", &found)?;
    }
    if let Some(mail) = &notices.mail {
        let found = match mail.check().await {
            Ok(()) => Ok("the mail server accepts the sign-in".to_owned()),
            Err(error) => Err(format!(
                "{}; check FANFARE_SMTP_URL: host, port, TLS, user and password",
                chain(&error)
            )),
        };
        report.add("notices by mail", &found)?;
    }
    Ok(())
}
