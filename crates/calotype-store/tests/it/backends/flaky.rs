//! An object store in memory that fails as real ones do, by a seed: before or after a request took
//! effect, slowly, with listings that name what is gone, or by losing what it acknowledged. It accepts to put
//! an object only if there is none, and does not do it.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    UploadPart,
};

/// How often things go wrong, in a thousand requests.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Faults {
    pub(super) before: u64,
    pub(super) after: u64,
    pub(super) slow: u64,
    /// A put that is acknowledged and not done.
    pub(super) lost: u64,
}

#[derive(Debug)]
pub(super) struct Flaky {
    below: InMemory,
    dice: Dice,
    /// Deleted objects that listings still name.
    ghosts: Mutex<Vec<ObjectMeta>>,
    pub(super) keep_ghosts: AtomicBool,
    /// Puts that were to fail if there is an object.
    pub(super) conditional_puts: AtomicU64,
}

#[derive(Debug)]
struct Dice {
    state: AtomicU64,
    faults: Mutex<Faults>,
}

impl Dice {
    fn roll(&self, chance: impl Fn(&Faults) -> u64) -> bool {
        // A multiplier of Knuth's; the high bits are good.
        let step = |state: u64| {
            Some(
                state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407),
            )
        };
        let state = self.state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, step).unwrap();
        (state >> 33) % 1000 < chance(&self.faults.lock().unwrap())
    }

    /// What happens before the request takes effect.
    async fn before(&self) -> Result<()> {
        if self.roll(|faults| faults.slow) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        if self.roll(|faults| faults.before) { Err(broken("before")) } else { Ok(()) }
    }

    /// What happens to the answer.
    fn after<T>(&self, answer: T) -> Result<T> {
        if self.roll(|faults| faults.after) { Err(broken("after")) } else { Ok(answer) }
    }
}

fn broken(when: &str) -> Error {
    let source = format!("status code: 500: the request failed {when} it was done").into();
    Error::Generic { store: "flaky", source }
}

impl Flaky {
    pub(super) fn new(seed: u64, faults: Faults) -> Arc<Self> {
        Arc::new(Self {
            below: InMemory::new(),
            dice: Dice { state: AtomicU64::new(seed), faults: Mutex::new(faults) },
            ghosts: Mutex::default(),
            keep_ghosts: AtomicBool::new(false),
            conditional_puts: AtomicU64::new(0),
        })
    }

    /// From now on.
    pub(super) fn set_faults(&self, faults: Faults) {
        *self.dice.faults.lock().unwrap() = faults;
    }
}

impl fmt::Display for Flaky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("flaky")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Flaky {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        mut options: PutOptions,
    ) -> Result<PutResult> {
        self.dice.before().await?;
        if !matches!(options.mode, PutMode::Overwrite) {
            self.conditional_puts.fetch_add(1, Ordering::SeqCst);
            options.mode = PutMode::Overwrite;
        }
        if self.dice.roll(|faults| faults.lost) {
            return InMemory::new().put_opts(location, payload, options).await;
        }
        self.dice.after(self.below.put_opts(location, payload, options).await?)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.dice.before().await?;
        let below = self.below.put_multipart_opts(location, options).await?;
        let dice = Dice {
            state: AtomicU64::new(self.dice.state.load(Ordering::SeqCst)),
            faults: Mutex::new(*self.dice.faults.lock().unwrap()),
        };
        Ok(Box::new(FlakyUpload { below, dice: Arc::new(dice) }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.dice.before().await?;
        self.below.get_opts(location, options).await
    }

    async fn get_ranges(
        &self,
        location: &Path,
        ranges: &[Range<u64>],
    ) -> Result<Vec<bytes::Bytes>> {
        self.dice.before().await?;
        self.below.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let before = self.dice.roll(|faults| faults.before);
        let after = self.dice.roll(|faults| faults.after);
        if before {
            return futures_util::stream::once(async { Err(broken("before")) }).boxed();
        }
        let keep = self.keep_ghosts.load(Ordering::SeqCst);
        if keep {
            let all = self.below.list(None).collect::<Vec<_>>().now_or_never().unwrap();
            self.ghosts.lock().unwrap().extend(all.into_iter().flatten());
        }
        let deleted = self.below.delete_stream(locations);
        if after {
            return deleted.map(|path| path.and_then(|_| Err(broken("after")))).boxed();
        }
        deleted
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if self.dice.roll(|faults| faults.before) {
            return futures_util::stream::once(async { Err(broken("before")) }).boxed();
        }
        let there = self.below.list(prefix).collect::<Vec<_>>().now_or_never().unwrap();
        let mut listed: Vec<_> = there.into_iter().flatten().collect();
        for ghost in self.ghosts.lock().unwrap().iter() {
            let inside = prefix.is_none_or(|prefix| ghost.location.prefix_matches(prefix));
            if inside && !listed.iter().any(|object| object.location == ghost.location) {
                listed.push(ghost.clone());
            }
        }
        futures_util::stream::iter(listed.into_iter().map(Ok)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.dice.before().await?;
        self.below.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.below.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct FlakyUpload {
    below: Box<dyn MultipartUpload>,
    dice: Arc<Dice>,
}

#[async_trait::async_trait]
impl MultipartUpload for FlakyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let sending = self.below.put_part(data);
        let dice = self.dice.clone();
        async move {
            dice.before().await?;
            dice.after(sending.await?)
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.dice.before().await?;
        self.dice.after(self.below.complete().await?)
    }

    async fn abort(&mut self) -> Result<()> {
        self.below.abort().await
    }
}
