//! Why the sandbox does not start, and why it refuses a component.

/// The sandbox cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The engine refuses its configuration, or the machine cannot give it the address space.
    #[error("cannot make the wasm engine: {0}")]
    Engine(String),
    /// A thread cannot be started.
    #[error("cannot start thread {name}: {source}")]
    Thread {
        /// Which.
        name: String,
        /// What the operating system says.
        source: std::io::Error,
    },
}

/// A component is refused. Every text is for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadFault {
    /// The file is not the one that the policy names. Nothing of it was parsed.
    #[error("handler {handler}: sha256 is {found}, the policy says {expected}")]
    Digest {
        /// The handler's name.
        handler: String,
        /// The policy's digest, hex.
        expected: String,
        /// The file's digest, hex.
        found: String,
    },
    /// The file is larger than a component may be.
    #[error("handler {handler}: {bytes} bytes, at most {max} are compiled")]
    TooLarge {
        /// The handler's name.
        handler: String,
        /// The file's size.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// The file does not compile as a component.
    #[error("handler {handler}: not a usable component: {detail}")]
    Compile {
        /// The handler's name.
        handler: String,
        /// What the compiler says.
        detail: String,
    },
    /// The component asks for something that no handler gets.
    #[error(
        "handler {handler}: imports {import}, which no handler gets (only tensorgate:handler/{{types,config,log}}@0.1.0 exist)"
    )]
    Import {
        /// The handler's name.
        handler: String,
        /// What it asks for.
        import: String,
    },
    /// The component asks for what its policy does not give it.
    #[error(
        "handler {handler}: needs {grant} (it imports {import}), which its policy does not give it: say what it may have with `{grant}:`, or build it without"
    )]
    Ungranted {
        /// The handler's name.
        handler: String,
        /// What of a policy would give it that.
        grant: &'static str,
        /// What it asks for.
        import: &'static str,
    },
    /// The component has no export of its role, or one of another type.
    #[error("handler {handler}: does not implement world {role}: {detail}")]
    World {
        /// The handler's name.
        handler: String,
        /// The world's name.
        role: &'static str,
        /// What is wrong.
        detail: String,
    },
    /// The component could not be instantiated even once within the policy's bounds.
    #[error("handler {handler}: needs {needs}, the policy gives {gives}")]
    Resources {
        /// The handler's name.
        handler: String,
        /// What it declares.
        needs: String,
        /// What it may have.
        gives: String,
    },
}
