//! The store of the process, which files of the module share. Envoy may have several loaded: a new
//! version, whose file needs another name, beside the one that serves running streams. The first
//! registers its store with Envoy, and all others use that one.

use core::ffi::c_void;
use core::mem;
use core::ptr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::OnceLock;
use std::thread;

use tensorgate_filter_core::host::HostFault;

use super::exported::guard;
use super::{Buffer, raw, refused, slice};
use crate::store::{Slots, shard};

/// The name in Envoy's registry of functions. Another layout or meaning of the types below needs
/// another number.
const NAME: &[u8] = b"tensorgate.store.1";

/// A slot as it is when a visit begins.
#[repr(C)]
struct View {
    exists: bool,
    token: u32,
    value: Buffer,
    /// For `write`.
    target: *mut c_void,
    /// Replaces the value. After that `value` is no longer valid.
    write: unsafe extern "C" fn(target: *mut c_void, value: Buffer),
}

type Visit = unsafe extern "C" fn(visitor: *mut c_void, view: *const View);

/// Locks the slot of a key, and calls `visit` at most once.
type Access = unsafe extern "C" fn(key: Buffer, visitor: *mut c_void, visit: Visit);

/// The store that this file uses.
static ACCESS: OnceLock<Access> = OnceLock::new();

/// Registers this file's store, or finds the one of the first file.
pub fn join_store() {
    ACCESS.get_or_init(|| {
        let mut first = ptr::null_mut();
        // SAFETY: the name is read during each call, and the pointer is a live local. Files are
        // never unloaded (`build.rs`), and each registers a function of this type by this name.
        unsafe {
            let name = Buffer::of(NAME);
            if raw::envoy_dynamic_module_callback_register_function(name, access as *mut c_void)
                || !raw::envoy_dynamic_module_callback_get_function(name, &mut first)
                || first.is_null()
            {
                access
            } else {
                mem::transmute::<*mut c_void, Access>(first)
            }
        }
    });
}

/// A slot of the store during a visit.
pub struct SharedSlot<'a>(&'a View);

impl SharedSlot<'_> {
    /// Its value and token, if it was ever written.
    pub fn current(&self) -> Option<(&[u8], u32)> {
        // SAFETY: the store has set both, and they do not change before `write`, which takes self.
        let value = unsafe { slice(self.0.value.data, self.0.value.size) };
        self.0.exists.then_some((value, self.0.token))
    }

    /// Replaces the value.
    pub fn write(self, value: &[u8]) {
        // SAFETY: the target is the store's own, and the visit is in progress.
        unsafe { (self.0.write)(self.0.target, Buffer::of(value)) }
    }
}

/// Looks at the slot of a key, which is locked meanwhile.
///
/// # Errors
/// The store has failed.
pub fn visit_slot<T>(key: &str, work: impl FnOnce(SharedSlot<'_>) -> T) -> Result<T, HostFault> {
    let mut visitor = Visitor {
        work: Some(work),
        result: None,
    };
    let store = ACCESS.get().copied().unwrap_or(access);
    // SAFETY: the key and the visitor live during the call, and the function is for this visitor.
    unsafe {
        store(
            Buffer::of(key.as_bytes()),
            (&raw mut visitor).cast(),
            visitor.function(),
        );
    }
    match visitor.result {
        Some(Ok(result)) => Ok(result),
        Some(Err(panic)) => resume_unwind(panic),
        None => Err(refused("the shared store")),
    }
}

/// What a visit does, and its result. It must not unwind into another file.
struct Visitor<F, T> {
    work: Option<F>,
    result: Option<thread::Result<T>>,
}

impl<T, F: FnOnce(SharedSlot<'_>) -> T> Visitor<F, T> {
    /// The visit for this type, which has no name.
    const fn function(&self) -> Visit {
        Self::visit
    }

    unsafe extern "C" fn visit(visitor: *mut c_void, view: *const View) {
        // SAFETY: the store passes on the visitor of `visit_slot`, and a view that lives as long.
        let (visitor, view) = unsafe { (&mut *visitor.cast::<Self>(), &*view) };
        if let Some(work) = visitor.work.take() {
            let run = AssertUnwindSafe(|| work(SharedSlot(view)));
            visitor.result = Some(catch_unwind(run));
        }
    }
}

/// What a visit may write to.
struct Target<'a> {
    slots: &'a mut Slots,
    key: &'a [u8],
}

/// This file's own store. The lock is not poisoned by a visit, which does not unwind.
unsafe extern "C" fn access(key: Buffer, visitor: *mut c_void, visit: Visit) {
    guard((), || {
        // SAFETY: the visitor's file has set both fields.
        let key = unsafe { slice(key.data, key.size) };
        let mut slots = shard(key);
        let slot = slots.get(key);
        let mut view = View {
            exists: slot.is_some(),
            token: slot.map_or(0, |slot| slot.token),
            value: slot.map_or(Buffer::EMPTY, |slot| Buffer::of(&slot.value)),
            target: ptr::null_mut(),
            write,
        };
        let mut target = Target {
            slots: &mut slots,
            key,
        };
        view.target = (&raw mut target).cast();
        // SAFETY: both live during the call. Nothing else touches the slots before it returns.
        unsafe { visit(visitor, &raw const view) };
    });
}

unsafe extern "C" fn write(target: *mut c_void, value: Buffer) {
    guard((), || {
        // SAFETY: the target is that of the visit in progress, and the value is the visitor's.
        let (target, value) = unsafe {
            (
                &mut *target.cast::<Target<'_>>(),
                slice(value.data, value.size),
            )
        };
        target.slots.write(target.key, value);
    });
}
