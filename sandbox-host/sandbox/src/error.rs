//! Errors of starting the sandbox and of loading components.

/// The sandbox cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The engine rejects its configuration, or the machine cannot provide the address space.
    #[error("cannot create the wasm engine: {0}")]
    Engine(String),
    /// A thread cannot be started.
    #[error("cannot start thread {name}: {source}")]
    Thread {
        /// The name of the thread.
        name: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
}

/// A component is rejected. Every text is for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadFault {
    /// The file's digest differs from the policy's. The file was not parsed.
    #[error("handler {handler}: sha256 is {found}, the policy has {expected}")]
    Digest {
        /// The handler's name.
        handler: String,
        /// The digest in the policy, in hex.
        expected: String,
        /// The digest of the file, in hex.
        found: String,
    },
    /// The file exceeds the size limit for components.
    #[error("handler {handler}: {bytes} bytes, at most {max} are compiled")]
    TooLarge {
        /// The handler's name.
        handler: String,
        /// The size of the file.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The file does not compile as a component.
    #[error("handler {handler}: not a valid component: {detail}")]
    Compile {
        /// The handler's name.
        handler: String,
        /// The compiler's error.
        detail: String,
    },
    /// The runtime that the component imports cannot be used.
    #[error("handler {handler}: cannot use the runtime that it was built for: {detail}")]
    Runtime {
        /// The handler's name.
        handler: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The component imports an interface that no handler gets.
    #[error("handler {handler}: imports {import}, which no handler may import: {advice}")]
    Import {
        /// The handler's name.
        handler: String,
        /// The name of the import.
        import: String,
        /// What to do about it.
        advice: &'static str,
    },
    /// The component was built for a version of the handler interface that this host does not have.
    #[error(
        "handler {handler}: needs version {version} of the handler interface, and this host has 0.1.0 and 0.2.0: update tensorgate, or build the handler with `tensorgate handler build` of this release"
    )]
    Version {
        /// The handler's name.
        handler: String,
        /// The version that it needs. The component chose the text.
        version: String,
    },
    /// The component is for development, and this host is not.
    #[error(
        "handler {handler}: a development build (it imports {import}), which only `tensorgate handler serve` and `tensorgate up --dev` load: run `tensorgate handler build PROJECT --into GATE_YAML --name {handler}`"
    )]
    Development {
        /// The handler's name.
        handler: String,
        /// The import that returns the author's code.
        import: &'static str,
    },
    /// The component imports an interface that its policy does not grant.
    #[error(
        "handler {handler}: needs {grant} (it imports {import}), which the policy does not grant: add `{grant}:` to the handler, or build it without this import"
    )]
    Ungranted {
        /// The handler's name.
        handler: String,
        /// The policy key that would grant it.
        grant: &'static str,
        /// The name of the import.
        import: &'static str,
    },
    /// The component lacks the export of its role, or the export has another type.
    #[error("handler {handler}: does not implement world {role}: {detail}")]
    World {
        /// The handler's name.
        handler: String,
        /// The name of the world.
        role: &'static str,
        /// The error.
        detail: String,
    },
    /// The component needs more resources to start than the policy allows.
    #[error("handler {handler}: needs {needs}, the policy allows {gives}")]
    Resources {
        /// The handler's name.
        handler: String,
        /// What the component declares.
        needs: String,
        /// What the policy allows.
        gives: String,
    },
}
