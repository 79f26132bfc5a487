// Buys `url` with @x402/fetch, exact or upto: node pay_scenario.mjs <url>; the key is in PAYER_KEY,
// TOKEN is an asset it may spend, and with RPC_URL it can sign approvals that the shop pays for.
import { ExactEvmScheme } from "@x402/evm/exact/client";
import { UptoEvmScheme } from "@x402/evm/upto/client";
import { wrapFetchWithPaymentFromConfig } from "@x402/fetch";
import { privateKeyToAccount } from "viem/accounts";
import { report } from "./report.mjs";

const [url] = process.argv.slice(2);
const network = "eip155:84532";
const account = privateKeyToAccount(process.env.PAYER_KEY);
const options = process.env.RPC_URL ? { rpcUrl: process.env.RPC_URL } : undefined;
const pay = wrapFetchWithPaymentFromConfig(fetch, {
  schemes: [
    { network, client: new ExactEvmScheme(account, options) },
    { network, client: new UptoEvmScheme(account, options) },
  ],
  spendControls: { allowedAssets: [{ network, asset: process.env.TOKEN }] },
});

await report(await pay(url));
