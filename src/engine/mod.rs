//! L3: the imperative shell: observe, apply, journal, outbox, supervise. Used by `cli`.
