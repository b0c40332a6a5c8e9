//! The check of the ledger's partitions.

use std::time::Duration;

use fanfare_store::Store;
use fanfare_store::retention::{Coverage, Keep};

use super::Finding;
use crate::output;

/// A day: routers look each minute, so a longer delay is a fault.
const LATE: Duration = Duration::from_hours(24);

/// Whether partitions are made ahead, and those that are no longer kept are dropped.
pub(super) async fn check(store: &Store, keep: Keep) -> Finding {
    match store.coverage(keep).await {
        Ok(coverage) => finding(coverage),
        Err(error) => Err(output::explain(&error.into())),
    }
}

fn finding(Coverage { ahead, overdue }: Coverage) -> Finding {
    let days = |duration: Duration| duration.as_secs() / LATE.as_secs();
    if overdue > LATE {
        return Err(format!(
            "the oldest day of the ledger should have been dropped {} days ago; start a router, or run \
             `fanfare retention`, and end transactions that have been reading for long",
            days(overdue)
        ));
    }
    if ahead < LATE {
        return Err(
            "the ledger has partitions for less than a day; start a router, or run `fanfare \
                    retention`"
                .to_owned(),
        );
    }
    Ok(format!("the ledger has partitions for {} more days, and none is overdue", days(ahead)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_partitions_and_overdue_ones_are_faults() {
        let found = |ahead, overdue| {
            let [ahead, overdue] = [ahead, overdue].map(Duration::from_hours);
            finding(Coverage { ahead, overdue })
        };
        assert!(found(170, 0).is_ok() && found(170, 23).is_ok());
        assert!(found(170, 49).unwrap_err().contains("2 days ago"));
        assert!(found(3, 0).unwrap_err().contains("less than a day"));
    }
}
