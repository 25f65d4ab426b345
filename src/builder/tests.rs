//! What the builder refuses.

use super::*;
use crate::store::CONNECTIONS_MAX;

#[test]
fn impossible_settings_are_named() {
    let build = |set: fn(Builder<u8, ()>) -> Builder<u8, ()>| set(Builder::default()).build();
    assert_eq!(
        build(|b| b.capacity(CONNECTIONS_MAX + 1)).unwrap_err(),
        ConfigError::CapacityTooLarge {
            capacity: CONNECTIONS_MAX + 1,
            capacity_max: CONNECTIONS_MAX
        }
    );
    for jitter in [-0.1, 1.1, f64::INFINITY] {
        let error = Builder::<u8, ()>::default().lifetime_jitter(jitter).build().unwrap_err();
        assert!(matches!(error, ConfigError::JitterOutOfRange { .. }), "{error}");
    }
    assert!(build(|b| b.lifetime_jitter(f64::NAN)).is_err());
    assert_eq!(build(|b| b.max_uses(0)).unwrap_err(), ConfigError::MaxUsesZero);
    assert_eq!(
        build(|b| b.min_idle_per_group(3).max_idle_per_group(2)).unwrap_err(),
        ConfigError::MinIdleAboveMaxIdle { min_idle: 3, max_idle: 2 }
    );
    assert!(build(|b| b.min_idle_per_group(3).max_idle_per_group(3)).is_ok());
    assert_eq!(
        build(|b| b.probe_interval(Duration::ZERO)).unwrap_err(),
        ConfigError::ProbeIntervalZero
    );
    assert_eq!(build(|b| b.trim_window(Duration::ZERO)).unwrap_err(), ConfigError::TrimWindowZero);
    let budget = |per_second, group_share| {
        let budget = RetirementBudget { per_second, group_share };
        Builder::<u8, ()>::default().retirement(budget).build()
    };
    assert_eq!(budget(0, 1.0).unwrap_err(), ConfigError::RetirementRateZero);
    for share in [0.0, -0.1, 1.001, f64::INFINITY, f64::NAN] {
        let error = budget(1, share).unwrap_err();
        assert!(matches!(error, ConfigError::RetirementShareOutOfRange { .. }), "{error}");
    }
    assert!(budget(1, f64::MIN_POSITIVE).is_ok());
    assert!(build(|b| b.lanes(0)).is_err());
    assert!(build(|b| b.lanes(LANES_MAX + 1)).is_err());
    assert!(build(|b| b.lanes(LANES_MAX).capacity(0).idle_timeout(Duration::MAX)).is_ok());
}
