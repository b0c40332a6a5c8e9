//! The publishers: the report servers that may publish over HTTP.

use fanfare_app::clock::rfc3339;
use fanfare_store::Store;
use fanfare_store::publishers::Publisher;

use super::Report;
use crate::output;

/// Says how many there are, and when one was last used.
pub(super) async fn check(report: &mut Report, store: &Store) -> anyhow::Result<()> {
    let finding = match store.publishers_list().await {
        Ok(publishers) => Ok(text(&publishers)),
        Err(error) => Err(output::explain(&error.into())),
    };
    report.add("publishers", &finding)
}

fn text(publishers: &[Publisher]) -> String {
    let active = publishers.iter().filter(|publisher| publisher.revoked_at.is_none());
    let (count, last) = (active.clone().count(), active.filter_map(|it| it.last_used_at).max());
    match (count, last) {
        (0, _) => "none, so no event is accepted over HTTP".to_owned(),
        (_, None) => format!("{count} may publish over HTTP, and none has done so yet"),
        (_, Some(last)) => {
            format!("{count} may publish over HTTP; the last one did at {}", rfc3339(last))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    #[test]
    fn a_revoked_publisher_does_not_count() {
        let publisher = |last_used_at, revoked_at| Publisher {
            name: "main".to_owned(),
            created_at: DateTime::UNIX_EPOCH,
            last_used_at,
            revoked_at,
        };
        let at = Some(DateTime::UNIX_EPOCH);
        assert!(text(&[publisher(at, at)]).starts_with("none"));
        assert!(text(&[publisher(None, None)]).starts_with("1 may publish over HTTP, and none"));
        let both = [publisher(at, None), publisher(at, at)];
        assert_eq!(
            text(&both),
            "1 may publish over HTTP; the last one did at 1970-01-01T00:00:00.000Z"
        );
    }
}
