declare module 'fs-native-extensions' {
  const native: {
    /** Whether the lock was granted. It belongs to the open file, and ends when that is closed. */
    tryLock(descriptor: number): boolean;
  };
  export default native;
}
