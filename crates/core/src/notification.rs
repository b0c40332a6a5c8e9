//! The body of a POST.
//!
//! It contains the number of the attempt, so it is rendered for each attempt. Its bytes are signed.

use crate::ids::DeliveryId;
use crate::webhook::Properties;

/// Renders a body: `Id`, `Attempt`, `Properties`, `Notifications`, in this order, compact.
///
/// `notifications` are compact JSON objects, as [`crate::event::Event::notification`].
#[must_use]
pub fn render<'a>(
    id: DeliveryId,
    attempt: i32,
    properties: &Properties,
    notifications: impl IntoIterator<Item = &'a str>,
) -> String {
    let properties = properties.to_json();
    let mut body =
        format!(r#"{{"Id":"{id}","Attempt":{attempt},"Properties":{properties},"Notifications":["#);
    for (index, notification) in notifications.into_iter().enumerate() {
        if index > 0 {
            body.push(',');
        }
        body.push_str(notification);
    }
    body.push_str("]}");
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_its_four_keys_in_order() {
        let id: DeliveryId = "0f8fad5bd9cb469fa16570867728950e".parse().unwrap();
        let body =
            render(id, 2, &Properties::default(), [r#"{"Action":"a"}"#, r#"{"Action":"b"}"#]);
        let expected = r#"{"Id":"0f8fad5bd9cb469fa16570867728950e","Attempt":2,"Properties":{},"Notifications":[{"Action":"a"},{"Action":"b"}]}"#;
        assert_eq!(body, expected);
    }
}
