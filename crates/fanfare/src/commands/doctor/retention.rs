//! The check of retention: partitions, payloads and the audit trail.

use std::time::Duration;

use fanfare_store::Store;
use fanfare_store::retention::{Coverage, Keep};

use super::Finding;
use crate::output;

/// A day: routers look each minute, so a longer delay is a fault.
const LATE: Duration = Duration::from_hours(24);

/// Whether partitions are made ahead, and what is no longer kept is removed.
pub(super) async fn check(store: &Store, keep: Keep) -> Finding {
    match store.coverage(keep).await {
        Ok(coverage) => finding(coverage),
        Err(error) => Err(output::explain(&error.into())),
    }
}

fn finding(coverage: Coverage) -> Finding {
    let days = |duration: Duration| duration.as_secs() / LATE.as_secs();
    let late = [
        ("the oldest day of the ledger should have been dropped", coverage.overdue),
        ("the oldest payload should have been removed", coverage.payloads_overdue),
        ("the oldest month of the audit trail should have been dropped", coverage.audit_overdue),
    ];
    if let Some((what, overdue)) = late.into_iter().find(|(_, overdue)| *overdue > LATE) {
        return Err(format!(
            "{what} {} days ago; start a router, or run `fanfare retention`, and end transactions that \
             have been reading for long",
            days(overdue)
        ));
    }
    if coverage.ahead < LATE {
        return Err(
            "the ledger has partitions for less than a day; start a router, or run `fanfare \
                    retention`"
                .to_owned(),
        );
    }
    Ok(format!(
        "the ledger has partitions for {} more days, and nothing is overdue",
        days(coverage.ahead)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_partitions_and_what_is_overdue_are_faults() {
        let found = |hours: [u64; 4]| {
            let [ahead, overdue, payloads_overdue, audit_overdue] = hours.map(Duration::from_hours);
            finding(Coverage { ahead, overdue, payloads_overdue, audit_overdue })
        };
        assert!(found([170, 0, 0, 0]).is_ok() && found([170, 23, 23, 23]).is_ok());
        for (hours, what) in [
            ([170, 49, 0, 0], "day of the ledger"),
            ([170, 0, 49, 0], "payload"),
            ([170, 0, 0, 49], "month of the audit trail"),
        ] {
            let fault = found(hours).unwrap_err();
            assert!(fault.contains(what) && fault.contains("2 days ago"), "{fault}");
        }
        assert!(found([3, 0, 0, 0]).unwrap_err().contains("less than a day"));
    }
}
