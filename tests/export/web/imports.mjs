// What a module needs of its host, as a JSON list: node imports.mjs MODULE.
import { readFileSync } from "node:fs";

console.log(JSON.stringify(WebAssembly.Module.imports(new WebAssembly.Module(readFileSync(process.argv[2])))));
