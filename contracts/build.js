// Compiles contracts/src/*.sol and writes one JSON artifact per deployable contract.
//
//   npm ci --prefix contracts && node contracts/build.js [output directory]
//
// The output is a function of the sources and the pinned compiler alone: no metadata hash, no
// timestamps, no paths of this machine. tests/chain/test_contracts.py compares it with what is kept.

"use strict";

const { createHash } = require("node:crypto");
const { mkdirSync, readdirSync, readFileSync, writeFileSync } = require("node:fs");
const { join, resolve } = require("node:path");
const solc = require("solc");

const SOURCES = join(__dirname, "src");
const ARTIFACTS = join(__dirname, "..", "x402_django", "chain", "devchain", "artifacts");
const SETTINGS = {
  evmVersion: "cancun",
  optimizer: { enabled: true, runs: 10000 },
  metadata: { bytecodeHash: "none", appendCBOR: false },
};

function readSources() {
  const names = readdirSync(SOURCES).filter((name) => name.endsWith(".sol")).sort();
  return Object.fromEntries(names.map((name) => [name, { content: readFileSync(join(SOURCES, name), "utf8") }]));
}

function compile(sources) {
  const outputSelection = { "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object", "metadata"] } };
  const input = { language: "Solidity", sources, settings: { ...SETTINGS, outputSelection } };
  const output = JSON.parse(solc.compile(JSON.stringify(input)));
  const messages = output.errors ?? [];
  messages.forEach((message) => console.error(message.formattedMessage));
  if (messages.length > 0) {
    process.exit(1); // warnings too: these sources compile clean
  }
  return output.contracts;
}

function artifact(file, name, contract, sources) {
  const used = Object.keys(JSON.parse(contract.metadata).sources).sort();
  const digest = (path) => createHash("sha256").update(sources[path].content, "utf8").digest("hex");
  return {
    contractName: name,
    sourceName: file,
    compiler: solc.version(),
    settings: SETTINGS,
    sources: Object.fromEntries(used.map((path) => [path, digest(path)])),
    abi: contract.abi,
    bytecode: "0x" + contract.evm.bytecode.object,
    deployedBytecode: "0x" + contract.evm.deployedBytecode.object,
  };
}

function main() {
  const directory = resolve(process.argv[2] ?? ARTIFACTS);
  const sources = readSources();
  mkdirSync(directory, { recursive: true });
  for (const [file, contracts] of Object.entries(compile(sources))) {
    const name = file.replace(/\.sol$/, "");
    if (contracts[name]?.evm.bytecode.object && name !== "Signatures") {
      const text = JSON.stringify(artifact(file, name, contracts[name], sources), null, 2) + "\n";
      writeFileSync(join(directory, name + ".json"), text);
      console.log(`${name}: ${contracts[name].evm.deployedBytecode.object.length / 2} bytes`);
    }
  }
}

main();
