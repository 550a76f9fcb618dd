/** What can be written as JSON and so be part of a fingerprint. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };
