/** Times of the server, compared exactly: Firestore's have microseconds, which a JavaScript Date cuts off. */

/** A point in time. The `Timestamp` of every Firebase SDK is one. */
export interface Time {
  /** Whole seconds since 1970 in UTC. */
  readonly seconds: number;
  /** 0 to 999,999,999. */
  readonly nanoseconds: number;
}

const ISO_8601 = /^(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?Z$/;

/** The time that the read API (or another Google API) tells as text, such as "2026-03-01T18:22:05.123456Z". */
export function timeOf(text: string): Time {
  const found = ISO_8601.exec(text);
  const milliseconds = found === null ? Number.NaN : Date.parse(`${found[1]}Z`);
  if (found === null || Number.isNaN(milliseconds)) {
    throw new RangeError(`${JSON.stringify(text)} is not a time such as "2026-03-01T18:22:05.123456Z"`);
  }
  return { seconds: milliseconds / 1000, nanoseconds: Number((found[2] ?? "").padEnd(9, "0")) };
}

/** A time as text with microseconds, as the read API writes and reads it; what is finer is cut off. */
export function textOf(time: Time): string {
  const upToSeconds = new Date(time.seconds * 1000).toISOString().slice(0, 19);
  return `${upToSeconds}.${String(Math.trunc(time.nanoseconds / 1000)).padStart(6, "0")}Z`;
}

/** Below zero when `a` is earlier than `b`, above zero when it is later, zero when they are the same. */
export function compareTimes(a: Time, b: Time): number {
  return a.seconds - b.seconds || a.nanoseconds - b.nanoseconds;
}
