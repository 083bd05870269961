// The kinds of configuration values: how each is written, its range, and what is said when it is wrong.

import { z } from "zod";
import { parseDuration, parseShare, parseSize, printDuration, printSize } from "./config-units.ts";

export const second = 1000;
export const hour = 3600 * second;
export const day = 24 * hour;
export const kib = 2 ** 10;
export const mib = 2 ** 20;
export const gib = 2 ** 30;

type Range = { readonly min: number; readonly max: number };

const within = (value: number, { min, max }: Range) => value >= min && value <= max;

export const duration = (range: Range & { readonly default: string }) =>
  z
    .string("is a duration with a unit: 500ms, 1s, 1.5m, 2h or 7d")
    .transform((text, context) => {
      const ms = parseDuration(text);
      if (ms === undefined) context.addIssue(`"${text}" is no duration; write 500ms, 1s, 1.5m, 2h or 7d`);
      else if (!within(ms, range))
        context.addIssue(`${text} is not from ${printDuration(range.min)} to ${printDuration(range.max)}`);
      return ms ?? z.NEVER;
    })
    .prefault(range.default);

export const bytes = (
  range: Range & { readonly default: string; readonly rule?: (bytes: number) => string },
) =>
  z
    .union([z.string(), z.number()], "is a size: 32MiB, 1GiB, 64KB or a number of bytes")
    .transform((given, context) => {
      const size = typeof given === "string" ? parseSize(given) : parseSize(String(given));
      const broken = size === undefined ? "" : (range.rule?.(size) ?? "");
      if (size === undefined) context.addIssue(`"${given}" is no size; write 32MiB, 1GiB, 64KB or bytes`);
      else if (!within(size, range))
        context.addIssue(`${given} is not from ${printSize(range.min)} to ${printSize(range.max)}`);
      else if (broken !== "") context.addIssue(`${given} ${broken}`);
      return size ?? z.NEVER;
    })
    .prefault(range.default);

export const amount = (range: Range & { readonly default: number }) =>
  z
    .int(`is a whole number from ${range.min} to ${range.max}`)
    .min(range.min, `is less than ${range.min}`)
    .max(range.max, `is more than ${range.max}`)
    .default(range.default);

/** A percent sign always: a bare 20 could be taken for the number of records, a bare 0.2 for 0.2 %. */
export const share = (fallback: string) =>
  z
    .string("is a share with its sign: 20%")
    .transform((text, context) => {
      const parsed = parseShare(text);
      if (parsed === undefined) context.addIssue(`"${text}" is no share from 0% to 100%; write 20% or 12.5%`);
      return parsed ?? z.NEVER;
    })
    .prefault(fallback);

export const flag = (value: boolean) => z.boolean("is true or false").default(value);

export const choice = <const T extends readonly [string, ...string[]]>(names: T, fallback: T[number]) =>
  z.enum(names, `is one of ${names.join(", ")}`).default(fallback);

export const text = (message: string) => z.string(message).min(1, message);

export const path = () => text("is the path of a file").optional();

/** What is inside of defaults and of what may be left out. */
export const unwrapped = (schema: unknown): unknown =>
  schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault || schema instanceof z.ZodOptional
    ? unwrapped(schema.unwrap())
    : schema;

export const section = <S extends z.core.$ZodLooseShape>(shape: S) =>
  z.strictObject(shape, "is a section of keys");
