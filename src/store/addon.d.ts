// The type of an embedded addon: the path that it has inside the compiled binary.

// biome-ignore lint/correctness/noUnresolvedImports: a pattern, not a file
declare module "*.node" {
  const path: string;
  export = path;
}
