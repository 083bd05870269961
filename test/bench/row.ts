// One line of the benchmark table: a figure beside its budget.

export type BenchRow = {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  readonly budget?: { readonly max?: number; readonly min?: number };
  readonly note?: string;
};
