// Buys `url` so many times by one payment channel with @x402/fetch: node pay_channel.mjs <url> <times>; the key is
// in PAYER_KEY, TOKEN is an asset it may spend, and RPC_URL is a node, to ask what a channel holds.
import { BatchSettlementEvmScheme } from "@x402/evm/batch-settlement/client";
import { toClientEvmSigner } from "@x402/evm";
import { wrapFetchWithPaymentFromConfig } from "@x402/fetch";
import { createPublicClient, http } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { report } from "./report.mjs";

const [url, times] = process.argv.slice(2);
const network = "eip155:84532";
const signer = toClientEvmSigner(
  privateKeyToAccount(process.env.PAYER_KEY),
  createPublicClient({ transport: http(process.env.RPC_URL) }),
);
const pay = wrapFetchWithPaymentFromConfig(fetch, {
  schemes: [{ network, client: new BatchSettlementEvmScheme(signer) }],
  spendControls: { allowedAssets: [{ network, asset: process.env.TOKEN }] },
});

for (let time = 0; time < Number(times); time += 1) await report(await pay(url));
