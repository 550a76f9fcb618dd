// SHA-256 of bytes: how every stored thing and every file of the user's is known.

/** 64 lower-case hexadecimal digits. */
export type Digest = string & { readonly __brand: 'Digest' };
