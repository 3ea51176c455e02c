//! The deterministic world: virtual time, virtual network, the real client and the embedded broker inside it.
