//! A value that is fetched when it is first needed, fetched again when it is old, and kept when that
//! fails.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// What was fetched last, and when.
#[derive(Debug)]
pub struct Refreshed<T, E> {
    current: ArcSwapOption<Fetched<T>>,
    /// Held while fetching, so that many requests cause one fetch. Holds the last failure.
    last_failure: Mutex<Option<Failure<E>>>,
}

#[derive(Debug)]
struct Fetched<T> {
    value: Arc<T>,
    at: Instant,
}

#[derive(Debug)]
struct Failure<E> {
    error: Arc<E>,
    at: Instant,
}

impl<T, E> Default for Refreshed<T, E> {
    fn default() -> Self {
        Self {
            current: ArcSwapOption::empty(),
            last_failure: Mutex::new(None),
        }
    }
}

impl<T, E: std::error::Error> Refreshed<T, E> {
    /// The value, not older than `max_age` if `fetch` can help it.
    ///
    /// After a failure nothing is fetched for two seconds; an older value is served meanwhile.
    ///
    /// # Errors
    /// The last failure, if there is no value at all.
    pub async fn get(
        &self,
        max_age: Duration,
        fetch: impl AsyncFnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, Arc<E>> {
        if let Some(value) = self.younger_than(max_age) {
            return Ok(value);
        }
        let mut last_failure = self.last_failure.lock().await;
        // Somebody else may have fetched while this request waited.
        if let Some(value) = self.younger_than(max_age) {
            return Ok(value);
        }
        if let Some(failure) = &*last_failure
            && failure.at.elapsed() < RETRY_AFTER
        {
            return self.last().ok_or_else(|| Arc::clone(&failure.error));
        }
        match fetch().await {
            Ok(value) => {
                let value = Arc::new(value);
                let fetched = Fetched {
                    value: Arc::clone(&value),
                    at: Instant::now(),
                };
                self.current.store(Some(Arc::new(fetched)));
                *last_failure = None;
                Ok(value)
            }
            Err(error) => {
                let error = Arc::new(error);
                *last_failure = Some(Failure {
                    error: Arc::clone(&error),
                    at: Instant::now(),
                });
                self.last().ok_or(error)
            }
        }
    }

    /// The value that was fetched last, if any; nothing is fetched for it.
    pub fn last(&self) -> Option<Arc<T>> {
        self.younger_than(Duration::MAX)
    }

    fn younger_than(&self, max_age: Duration) -> Option<Arc<T>> {
        let current = self.current.load();
        let fetched = current.as_ref()?;
        (fetched.at.elapsed() < max_age).then(|| Arc::clone(&fetched.value))
    }
}

/// A provider that is down is asked once in this time, however many users wait.
const RETRY_AFTER: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::io::Error;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    #[derive(Default)]
    struct Source {
        fetches: AtomicU32,
        broken: std::sync::atomic::AtomicBool,
    }

    impl Source {
        async fn fetch(&self) -> Result<u32, Error> {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let count = self.fetches.fetch_add(1, Ordering::SeqCst) + 1;
            if self.broken.load(Ordering::SeqCst) {
                Err(Error::other("down"))
            } else {
                Ok(count)
            }
        }

        fn fetches(&self) -> u32 {
            self.fetches.load(Ordering::SeqCst)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_requests_cause_one_fetch() {
        let (source, cell) = (Source::default(), Refreshed::default());
        let requests = (0..50).map(|_| cell.get(HOUR, async || source.fetch().await));
        for value in futures_util::future::join_all(requests).await {
            assert_eq!(*value.unwrap(), 1);
        }
        assert_eq!(source.fetches(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_value_is_fetched_again_and_kept_while_the_source_is_down() {
        let (source, cell) = (Source::default(), Refreshed::default());
        assert_eq!(
            *cell.get(HOUR, async || source.fetch().await).await.unwrap(),
            1
        );
        tokio::time::advance(HOUR).await;
        source.broken.store(true, Ordering::SeqCst);
        assert_eq!(
            *cell.get(HOUR, async || source.fetch().await).await.unwrap(),
            1
        );
        assert_eq!(source.fetches(), 2);
        source.broken.store(false, Ordering::SeqCst);
        tokio::time::advance(RETRY_AFTER).await;
        assert_eq!(
            *cell.get(HOUR, async || source.fetch().await).await.unwrap(),
            3
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_is_down_is_not_asked_by_everybody() {
        let (source, cell) = (Source::default(), Refreshed::default());
        source.broken.store(true, Ordering::SeqCst);
        let requests = (0..50).map(|_| cell.get(HOUR, async || source.fetch().await));
        for value in futures_util::future::join_all(requests).await {
            assert_eq!(value.unwrap_err().to_string(), "down");
        }
        assert_eq!(source.fetches(), 1);
    }
}
