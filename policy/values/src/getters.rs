//! Getters of validated values, whose fields are private.

/// Declares getters: each line is a field and the type in which it is read. `&T` borrows the field,
/// and so does `Option<&T>`; other types are copied.
#[macro_export]
macro_rules! getters {
    ($type:ty { $($getters:tt)* }) => {
        impl $type {
            $crate::getters! { @ $($getters)* }
        }
    };
    (@ $(#[$doc:meta])* $name:ident: Option<&str>, $($rest:tt)*) => {
        $(#[$doc])*
        pub fn $name(&self) -> Option<&str> {
            self.$name.as_deref()
        }
        $crate::getters! { @ $($rest)* }
    };
    (@ $(#[$doc:meta])* $name:ident: Option<&[$seen:ty]>, $($rest:tt)*) => {
        $(#[$doc])*
        pub fn $name(&self) -> Option<&[$seen]> {
            self.$name.as_deref()
        }
        $crate::getters! { @ $($rest)* }
    };
    (@ $(#[$doc:meta])* $name:ident: Option<&$seen:ty>, $($rest:tt)*) => {
        $(#[$doc])*
        pub const fn $name(&self) -> Option<&$seen> {
            self.$name.as_ref()
        }
        $crate::getters! { @ $($rest)* }
    };
    (@ $(#[$doc:meta])* $name:ident: &str, $($rest:tt)*) => {
        $(#[$doc])*
        pub fn $name(&self) -> &str {
            &self.$name
        }
        $crate::getters! { @ $($rest)* }
    };
    (@ $(#[$doc:meta])* $name:ident: &[$seen:ty], $($rest:tt)*) => {
        $(#[$doc])*
        pub fn $name(&self) -> &[$seen] {
            &self.$name
        }
        $crate::getters! { @ $($rest)* }
    };
    (@ $(#[$doc:meta])* $name:ident: &$seen:ty, $($rest:tt)*) => {
        $(#[$doc])*
        pub const fn $name(&self) -> &$seen {
            &self.$name
        }
        $crate::getters! { @ $($rest)* }
    };
    (@ $(#[$doc:meta])* $name:ident: $seen:ty, $($rest:tt)*) => {
        $(#[$doc])*
        pub const fn $name(&self) -> $seen {
            self.$name
        }
        $crate::getters! { @ $($rest)* }
    };
    (@) => {};
}
