//! A record → attributes.

use std::collections::BTreeMap;
use std::fmt;

use opentelemetry::{Array, KeyValue, StringValue, Value};
use serde::ser::{
    Error as _, Impossible, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeTuple,
    Serializer,
};
use serde_json::Value as Json;

/// Every field of a record under `prefix`, so that the attributes are the output contract's to the letter.
/// Objects become dotted names; a list of objects becomes one list for each of their fields.
pub(super) fn attributes(prefix: &str, record: &impl Serialize, but: &[&str]) -> Vec<KeyValue> {
    let mut fields =
        Fields { name: prefix.to_owned(), top: prefix.len(), but, found: Vec::with_capacity(64) };
    // What is no record has no fields.
    let _ = record.serialize(&mut fields);
    fields.found.sort_by(|one, other| one.key.as_str().cmp(other.key.as_str()));
    fields.found
}

/// Turns what is serialized into attributes, without a copy of it on the way: what a record leaves out costs nothing.
struct Fields<'a> {
    /// What the value at hand is called.
    name: String,
    /// The length of the record's own name in that.
    top: usize,
    /// Fields of the record that are left out.
    but: &'a [&'a str],
    found: Vec<KeyValue>,
}

impl Fields<'_> {
    fn push(&mut self, value: impl Into<Value>) {
        self.found.push(KeyValue::new(self.name.clone(), value));
    }

    fn whole(&mut self, number: impl TryInto<i64> + Copy, as_float: f64) {
        match number.try_into() {
            Ok(whole) => self.push(whole),
            Err(_) => self.push(as_float),
        }
    }

    fn field(&mut self, field: &str, value: &(impl Serialize + ?Sized)) -> fmt::Result {
        // `call_id` has its own, common name.
        if self.name.len() == self.top && (field == "call_id" || self.but.contains(&field)) {
            return Ok(());
        }
        let len = self.name.len();
        self.name.push('.');
        self.name.push_str(field);
        let result = value.serialize(&mut *self);
        self.name.truncate(len);
        result
    }

    fn list(&mut self, items: Vec<Json>) {
        let mut lists: BTreeMap<String, Vec<StringValue>> = BTreeMap::new();
        for item in items {
            match item {
                Json::Object(fields) => {
                    for (field, value) in fields {
                        lists.entry(format!("{}.{field}", self.name)).or_default().push(text(value));
                    }
                }
                other => lists.entry(self.name.clone()).or_default().push(text(other)),
            }
        }
        let list = |(name, list)| KeyValue::new(name, Value::Array(Array::String(list)));
        self.found.extend(lists.into_iter().map(list));
    }
}

fn text(value: Json) -> StringValue {
    match value {
        Json::String(text) => text.into(),
        // In its place, so that the lists of one record belong together.
        Json::Null => "".into(),
        other => other.to_string().into(),
    }
}

fn json(value: &(impl Serialize + ?Sized)) -> Result<Json, fmt::Error> {
    serde_json::to_value(value).map_err(fmt::Error::custom)
}

/// A list, or an object with the key that was given last.
struct List<'f, 'a>(&'f mut Fields<'a>, Vec<Json>);
struct Object<'f, 'a>(&'f mut Fields<'a>, Json);

#[allow(clippy::cast_precision_loss, reason = "as JSON has it: a number too large for an integer")]
impl<'f, 'a> Serializer for &'f mut Fields<'a> {
    type Ok = ();
    type Error = fmt::Error;
    type SerializeSeq = List<'f, 'a>;
    type SerializeTuple = List<'f, 'a>;
    type SerializeTupleStruct = Impossible<(), fmt::Error>;
    type SerializeTupleVariant = Impossible<(), fmt::Error>;
    type SerializeMap = Object<'f, 'a>;
    type SerializeStruct = Object<'f, 'a>;
    type SerializeStructVariant = Impossible<(), fmt::Error>;

    fn serialize_bool(self, flag: bool) -> fmt::Result {
        self.push(flag);
        Ok(())
    }

    fn serialize_i8(self, number: i8) -> fmt::Result {
        self.serialize_i64(number.into())
    }

    fn serialize_i16(self, number: i16) -> fmt::Result {
        self.serialize_i64(number.into())
    }

    fn serialize_i32(self, number: i32) -> fmt::Result {
        self.serialize_i64(number.into())
    }

    fn serialize_i64(self, number: i64) -> fmt::Result {
        self.push(number);
        Ok(())
    }

    fn serialize_u8(self, number: u8) -> fmt::Result {
        self.serialize_i64(number.into())
    }

    fn serialize_u16(self, number: u16) -> fmt::Result {
        self.serialize_i64(number.into())
    }

    fn serialize_u32(self, number: u32) -> fmt::Result {
        self.serialize_i64(number.into())
    }

    fn serialize_u64(self, number: u64) -> fmt::Result {
        self.whole(number, number as f64);
        Ok(())
    }

    fn serialize_f32(self, number: f32) -> fmt::Result {
        self.serialize_f64(number.into())
    }

    fn serialize_f64(self, number: f64) -> fmt::Result {
        // JSON has no other numbers.
        if number.is_finite() {
            self.push(number);
        }
        Ok(())
    }

    fn serialize_char(self, c: char) -> fmt::Result {
        self.serialize_str(c.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, text: &str) -> fmt::Result {
        self.push(text.to_owned());
        Ok(())
    }

    fn serialize_bytes(self, _: &[u8]) -> fmt::Result {
        Err(fmt::Error)
    }

    fn serialize_none(self) -> fmt::Result {
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> fmt::Result {
        value.serialize(self)
    }

    fn serialize_unit(self) -> fmt::Result {
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> fmt::Result {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> fmt::Result {
        self.push(variant);
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> fmt::Result {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> fmt::Result {
        self.field(variant, value)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<List<'f, 'a>, fmt::Error> {
        Ok(List(self, vec![]))
    }

    fn serialize_tuple(self, _: usize) -> Result<List<'f, 'a>, fmt::Error> {
        Ok(List(self, vec![]))
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, fmt::Error> {
        Err(fmt::Error)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, fmt::Error> {
        Err(fmt::Error)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Object<'f, 'a>, fmt::Error> {
        Ok(Object(self, Json::Null))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Object<'f, 'a>, fmt::Error> {
        Ok(Object(self, Json::Null))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, fmt::Error> {
        Err(fmt::Error)
    }
}

impl SerializeSeq for List<'_, '_> {
    type Ok = ();
    type Error = fmt::Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, item: &T) -> fmt::Result {
        self.1.push(json(item)?);
        Ok(())
    }

    fn end(self) -> fmt::Result {
        self.0.list(self.1);
        Ok(())
    }
}

impl SerializeTuple for List<'_, '_> {
    type Ok = ();
    type Error = fmt::Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, item: &T) -> fmt::Result {
        SerializeSeq::serialize_element(self, item)
    }

    fn end(self) -> fmt::Result {
        SerializeSeq::end(self)
    }
}

impl SerializeMap for Object<'_, '_> {
    type Ok = ();
    type Error = fmt::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> fmt::Result {
        self.1 = json(key)?;
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> fmt::Result {
        self.0.field(self.1.as_str().ok_or(fmt::Error)?, value)
    }

    fn end(self) -> fmt::Result {
        Ok(())
    }
}

impl SerializeStruct for Object<'_, '_> {
    type Ok = ();
    type Error = fmt::Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, field: &'static str, value: &T) -> fmt::Result {
        self.0.field(field, value)
    }

    fn end(self) -> fmt::Result {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::samples;
    use crate::record::Output;

    /// The attributes of a record, found by way of its JSON.
    fn by_json(prefix: &str, record: &impl Serialize, but: &[&str]) -> Vec<(String, String)> {
        fn flatten(name: &str, value: Json, found: &mut Vec<(String, String)>) {
            let value = match value {
                Json::Null => return,
                Json::Object(fields) => {
                    return fields.into_iter().for_each(|(field, value)| {
                        flatten(&format!("{name}.{field}"), value, found);
                    });
                }
                Json::Array(items) => {
                    let mut fields = Fields { name: name.to_owned(), top: 0, but: &[], found: vec![] };
                    fields.list(items);
                    return found.extend(fields.found.iter().map(shown));
                }
                Json::Bool(flag) => Value::Bool(flag),
                Json::Number(number) => {
                    number.as_i64().map_or(Value::F64(number.as_f64().unwrap()), Value::I64)
                }
                Json::String(text) => text.into(),
            };
            found.push((name.to_owned(), format!("{value:?}")));
        }
        let Json::Object(mut fields) = serde_json::to_value(record).unwrap() else { panic!("no record") };
        fields.retain(|field, _| field != "call_id" && !but.contains(&field.as_str()));
        let mut found = vec![];
        flatten(prefix, Json::Object(fields), &mut found);
        found
    }

    fn shown(attribute: &KeyValue) -> (String, String) {
        (attribute.key.to_string(), format!("{:?}", attribute.value))
    }

    #[test]
    fn they_are_those_of_the_json_in_its_order() {
        fn same(record: &impl Serialize, but: &[&str]) {
            let found: Vec<_> = attributes("p", record, but).iter().map(shown).collect();
            assert_eq!(found, by_json("p", record, but));
            assert!(!found.is_empty());
        }
        for attempt in [samples::busy(), samples::second_leg(), samples::succeeded()] {
            same(&attempt, &["started", "ended", "messages"]);
            same(&attempt, &[]);
        }
        for output in [samples::notice(), samples::call(), samples::alert()] {
            match output {
                Output::Notice(notice) => same(&*notice, &["time"]),
                Output::Call(call) => same(&*call, &["started", "ended", "trace_id"]),
                Output::Alert(alert) => same(&*alert, &[]),
                Output::Transfer(_) => {}
            }
        }
        same(&BTreeMap::from([("a-b", Some(u64::MAX)), ("a", Some(1)), ("call_id", None)]), &["b"]);
        same(&BTreeMap::from([("x", (1, "y")), ("z", (2, ""))]), &[]);
    }
}
