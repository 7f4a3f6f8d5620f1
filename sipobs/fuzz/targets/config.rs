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
    match toml::from_str::<Config>(&printed) {
        Ok(again) => assert_eq!(again.to_toml().expect("every field has a form"), printed),
        // What stands in place of a secret is none.
        Err(error) => assert!(["(hidden)", "***"].iter().any(|hidden| printed.contains(hidden)), "{error}"),
    }
});
