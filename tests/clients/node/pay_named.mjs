// Buys `url` as pay_v2.mjs does, under the payment identifier `name`: node pay_named.mjs <url> <name>.
import { x402Client } from "@x402/core/client";
import { ExactEvmScheme } from "@x402/evm/exact/client";
import { appendPaymentIdentifierToExtensions } from "@x402/extensions/payment-identifier";
import { wrapFetchWithPayment } from "@x402/fetch";
import { privateKeyToAccount } from "viem/accounts";
import { report } from "./report.mjs";

const [url, name] = process.argv.slice(2);
const network = "eip155:84532";
const client = x402Client
  .fromConfig({
    schemes: [{ network, client: new ExactEvmScheme(privateKeyToAccount(process.env.PAYER_KEY)) }],
    spendControls: { allowedAssets: [{ network, asset: process.env.TOKEN }] },
  })
  .onBeforePaymentCreation(async ({ paymentRequired }) => {
    appendPaymentIdentifierToExtensions(paymentRequired.extensions, name);
  });

await report(await wrapFetchWithPayment(fetch, client)(url));
