//! A message as the ledger keeps it: its body, and its properties as AMQP encodes them, headers of any
//! type included. So nothing is lost that the broker itself would keep.

use bytes::Bytes;
use lapin::protocol::basic::gen_properties;

use crate::error::PublishError;
use crate::message::Message;
use crate::publisher::properties;
use crate::wire::properties::decode;

impl Message {
    /// The properties and headers as they are published, in the encoding of AMQP 0-9-1 (section 4.2).
    ///
    /// # Errors
    ///
    /// [`PublishError::Unsendable`]: a text is too long for the protocol, so the message can't be
    /// published either.
    pub fn encode_properties(&self) -> Result<Vec<u8>, PublishError> {
        let properties = properties(self)?;
        let encoded = gen_properties(&properties)(Vec::new().into());
        let unsendable = |error: &dyn std::fmt::Display| PublishError::Unsendable {
            reason: format!("its properties can't be encoded: {error}"),
        };
        encoded.map(|written| written.into_inner().0).map_err(|error| unsendable(&error))
    }

    /// The message with these [encoded properties](Self::encode_properties); `None` if they can't be
    /// decoded.
    #[must_use]
    pub fn from_encoded(properties: &[u8], body: impl Into<Bytes>) -> Option<Self> {
        Some(Self::from_delivery(body.into(), &decode(properties)?).0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Headers, Properties};
    use lapin::types::{AMQPValue, DecimalValue, FieldTable};

    fn with(headers: &FieldTable) -> Message {
        let text = |text: &str| Some(text.to_owned());
        Message {
            headers: Headers::from_table(Some(headers)),
            message_id: text("m"),
            properties: Properties {
                content_encoding: text("identity"),
                kind: text("type"),
                correlation_id: text("correlation"),
                reply_to: text("reply"),
                app_id: text("app"),
                cluster_id: text("cluster"),
                timestamp: Some(u64::MAX),
                priority: Some(9),
                delivery_mode: Some(crate::message::TRANSIENT),
            },
            ..Message::new(vec![0, 0xff], "text/plain")
        }
    }

    #[test]
    fn properties_of_every_type_are_the_same_after_encoding_and_decoding() {
        let mut inner = FieldTable::default();
        inner.insert("bytes".into(), AMQPValue::ByteArray(vec![0xff, 0].into()));
        let values = vec![
            AMQPValue::Void,
            AMQPValue::Boolean(true),
            AMQPValue::ShortShortInt(i8::MIN),
            AMQPValue::ShortShortUInt(u8::MAX),
            AMQPValue::ShortInt(i16::MIN),
            AMQPValue::ShortUInt(u16::MAX),
            AMQPValue::LongInt(i32::MIN),
            AMQPValue::LongUInt(u32::MAX),
            AMQPValue::LongLongInt(i64::MIN),
            AMQPValue::Float(f32::MIN_POSITIVE),
            AMQPValue::Double(f64::NEG_INFINITY),
            AMQPValue::DecimalValue(DecimalValue { scale: 255, value: u32::MAX }),
            AMQPValue::Timestamp(u64::MAX),
            AMQPValue::LongString(vec![0xfe, 0].into()),
            AMQPValue::FieldTable(inner),
        ];
        let mut headers = FieldTable::default();
        for (number, value) in values.iter().enumerate() {
            headers.insert(format!("header {number}").into(), value.clone());
        }
        headers.insert("all".into(), AMQPValue::FieldArray(values.into()));
        let message = with(&headers);
        let encoded = message.encode_properties().unwrap();
        assert_eq!(Message::from_encoded(&encoded, message.body.clone()), Some(message));
    }

    #[test]
    fn bytes_that_are_no_properties_give_no_message() {
        assert_eq!(Message::from_encoded(&[0xff], Bytes::new()), None);
    }
}
