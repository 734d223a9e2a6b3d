//! What the page is made of: one JSON document, of which any member may be missing or of another kind.

use skillcache::json::Value;

/// The member at a path such as `caches.execution.hits`.
pub fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, name| value.get(name)).filter(|found| **found != Value::Null)
}

/// The number at a path.
pub fn number(value: &Value, path: &str) -> Option<f64> {
    at(value, path)?.as_f64().filter(|number| number.is_finite())
}

/// The number at a path, or nothing of it.
pub fn count(value: &Value, path: &str) -> f64 {
    number(value, path).unwrap_or(0.0)
}

/// The text at a path.
pub fn text<'a>(value: &'a Value, path: &str) -> Option<&'a str> {
    at(value, path)?.as_str()
}

/// The items at a path.
pub fn items<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    at(value, path).and_then(Value::as_array).unwrap_or_default()
}

/// The members at a path.
pub fn members<'a>(value: &'a Value, path: &str) -> &'a [(String, Value)] {
    at(value, path).and_then(Value::as_object).unwrap_or_default()
}

/// `part / whole`, if there is a whole.
pub fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then_some(part / whole)
}
