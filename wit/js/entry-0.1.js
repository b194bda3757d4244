// A bad input in version 0.1 of the interface.
const rejection = (error) => error.message;
