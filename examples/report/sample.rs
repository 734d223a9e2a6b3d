pub fn document() -> super::Answer<skillcache::json::Value> {
    Err("later".into())
}
