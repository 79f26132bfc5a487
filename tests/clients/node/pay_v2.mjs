// Buys `url` with @x402/fetch (x402 v2): node pay_v2.mjs <url> <method> [body]; the key is in PAYER_KEY,
// and TOKEN is an asset it may spend beside the well-known ones.
import { ExactEvmScheme } from "@x402/evm/exact/client";
import { wrapFetchWithPaymentFromConfig } from "@x402/fetch";
import { privateKeyToAccount } from "viem/accounts";
import { report } from "./report.mjs";

const [url, method, body] = process.argv.slice(2);
const network = "eip155:84532";
const pay = wrapFetchWithPaymentFromConfig(fetch, {
  schemes: [{ network, client: new ExactEvmScheme(privateKeyToAccount(process.env.PAYER_KEY)) }],
  spendControls: { allowedAssets: [{ network, asset: process.env.TOKEN }] },
});

await report(await pay(url, { method, body }));
