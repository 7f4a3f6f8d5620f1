//! Any text as a configuration: it is refused, or it works and reads back as it was.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sipobs::config::Config;
use sipobs::engine::Engine;

fuzz_target!(|text: &str| {
    let Ok(config) = toml::from_str::<Config>(text) else { return };
    if let Ok(privacy) = config.privacy()
        && let Ok(engine) = Engine::new(config.engine(), privacy)
    {
        assert_eq!(engine.poll_timeout(), None);
    }
    let printed = config.to_toml().expect("every field has a form");
    if !printed.contains("(hidden)") {
        let again: Config = toml::from_str(&printed).expect("what is printed reads back");
        assert_eq!(again.to_toml().expect("every field has a form"), printed);
    }
});
