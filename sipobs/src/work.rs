//! A count of the steps that reading takes, to show in tests that no input takes more than linear time: a step is
//! a byte looked at or copied, or an entry of a table visited. Nothing outside tests.

#[cfg(test)]
std::thread_local! {
    static STEPS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// So many steps were taken.
#[inline]
pub(crate) fn count(steps: usize) {
    #[cfg(test)]
    STEPS.with(|all| all.set(all.get() + steps as u64));
    #[cfg(not(test))]
    let _ = steps;
}

/// The steps that `work` takes on this thread.
#[cfg(test)]
pub(crate) fn measure(work: impl FnOnce()) -> u64 {
    let before = STEPS.with(std::cell::Cell::get);
    work();
    STEPS.with(std::cell::Cell::get) - before
}

#[cfg(test)]
mod tests;
