/* The pay page: has a wallet send the transfer that a challenge asks for, has its sender sign the
   proof, and brings that to what it pays for, or shows it. Before the wallet is asked to send, that
   is written to localStorage, and then the transaction's hash: whatever is closed or reloaded,
   nobody is asked to send twice, and a transfer that was sent can still be proven. */
(() => {
  "use strict";
  const { $, page, pause, message, show, progress, countSeconds, fail, Problem, codeOf } = X402;
  const { explain, ask, paid, useNetwork, checkFunds, findWallets, addButton, start } = X402;
  const { challenge, offer } = page;
  const clockSkew = page.now - Date.now() / 1000;
  const target = page.resource && location.origin + page.resource;

  // ------------------------------------------------------------------------- what is kept

  /* {account} once the wallet may have sent; then also `transaction`, then `signature`, and
     `opened` once this was answered with what it pays for. The key is the challenge's signature. */
  const storageKey = `x402:${challenge.challengeId.split(":").pop()}`;
  const recall = () => JSON.parse(localStorage.getItem(storageKey));
  const keep = (transfer) => localStorage.setItem(storageKey, JSON.stringify(transfer));
  const forget = () => localStorage.removeItem(storageKey);

  function canKeep() {
    try {
      localStorage.setItem("x402", "");
      localStorage.removeItem("x402");
      return navigator.cookieEnabled;
    } catch {
      return false; // the browser forbids it
    }
  }

  // ------------------------------------------------------------------------- the transfer

  const word = (hex) => hex.padStart(64, "0");

  async function connect(wallet, account) {
    progress("connect");
    const accounts = await wallet.request({ method: "eth_requestAccounts" });
    if (!accounts.length) throw new Problem("e_account");
    if (!account) return accounts[0];
    const own = accounts.find((one) => one.toLowerCase() === account.toLowerCase());
    if (!own) throw new Problem("e_sender", { account });
    return own;
  }

  async function send(wallet) {
    let account;
    try {
      if (!canKeep()) throw new Problem("e_storage");
      if (recall()) return resume(); // it was sent from another tab
      if (Date.now() / 1000 + clockSkew > page.lastSending) throw new Problem("e_late");
      account = await connect(wallet);
      await useNetwork(wallet, offer.chain);
      await checkFunds(wallet, account, offer, challenge);
      progress("transfer", offer);
    } catch (error) {
      return fail(explain(error));
    }
    keep({ account });
    const amount = BigInt(challenge.amount).toString(16);
    const data = "0xa9059cbb" + word(challenge.payTo.slice(2).toLowerCase()) + word(amount);
    try {
      const transaction = await wallet.request({
        method: "eth_sendTransaction",
        params: [{ from: account, to: challenge.asset, value: "0x0", data }],
      });
      if (!isHash(transaction)) throw new Error(String(transaction));
      keep({ account, transaction: transaction.toLowerCase() });
    } catch (error) {
      if (![4001, 4100, 4200].includes(codeOf(error))) return doubt(); // it may have been sent
      forget();
      return fail(explain(error));
    }
    return prove(wallet);
  }

  const isHash = (text) => /^0x[0-9a-f]{64}$/i.test(text);

  function doubt() {
    $("hash").value = "";
    fail(message("e_doubt"), "sent");
  }

  // ------------------------------------------------------------------------- the proof

  /** Have the sender sign for the transaction that is in the field. */
  async function proveTyped(wallet) {
    const transaction = $("hash").value.trim().toLowerCase();
    if (!isHash(transaction)) return fail(message("e_hash"), "sent");
    if (!canKeep()) return fail(message("e_storage"), "sent");
    const known = recall();
    const isOther = known?.transaction && known.transaction !== transaction;
    keep({ account: isOther ? undefined : known?.account, transaction });
    return prove(wallet);
  }

  async function prove(wallet) {
    const { account, transaction } = recall();
    try {
      const signer = await connect(wallet, account);
      progress("prove");
      const text =
        `x402 transfer proof\nchallenge: ${challenge.challengeId}\ntransaction: ${transaction}`;
      const bytes = Array.from(new TextEncoder().encode(text));
      const hex = "0x" + bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("");
      const signature = await wallet.request({ method: "personal_sign", params: [hex, signer] });
      keep({ account, transaction, signature });
    } catch (error) {
      $("hash").value = transaction;
      const detail = String(error?.message ?? error).slice(0, 200);
      const known = error instanceof Problem && detail;
      return fail(known || message(codeOf(error) === 4001 ? "e_unsigned" : "e_sign", { detail }), "sent");
    }
    return settle();
  }

  function proof() {
    const { transaction, signature } = recall();
    const { chainId, challengeId } = challenge;
    return JSON.stringify({ txHash: transaction, chainId, challengeId, signature });
  }

  // ------------------------------------------------------------------------- what it pays for

  /** Bring the proof to what it pays for until that is certain. Asks the wallet for nothing. */
  async function settle() {
    if (!target) return handOver();
    progress("pending");
    countSeconds();
    for (;;) {
      const { response, answer } = await ask(target, { "X-402-Proof": proof() });
      const { status } = response;
      const retryAfter = Number(response.headers.get("Retry-After"));
      if (status === 200 && "receipt" in answer) return open(answer);
      const isPending = status === 402 && answer.error === "payment_pending";
      if (!(retryAfter && (isPending || status === 409 || status === 503))) {
        if (status === 402 || status === 400) return refused(answer);
        return fail(message("e_page", { status: status || response.type }), "retry");
      }
      progress("pending");
      await pause(Math.max(retryAfter, 1));
    }
  }

  /** Not taken. The hash stays, for the proof of a transfer that was sent must not get lost. */
  function refused({ error: code = "" }) {
    const text = message(code) ?? message("e_proof", { code });
    const { transaction } = recall();
    if (code === "invalid_transaction_state") {
      forget(); // it moved no money
      return fail(text, page.lastSending ? "choose" : "sent");
    }
    keep({ transaction });
    $("hash").value = transaction;
    return fail(text, "sent");
  }

  async function open({ receipt }) {
    keep({ ...recall(), opened: true });
    paid(receipt);
    await pause(1);
    location.assign(target);
  }

  function handOver() {
    $("proof-text").value = `X-402-Proof: ${proof()}`;
    $("error").textContent = "";
    show("proof");
  }

  async function copy() {
    $("proof-text").select();
    try {
      await navigator.clipboard.writeText($("proof-text").value);
      $("copied").textContent = message("copied");
    } catch {
      $("copied").textContent = message("e_copy");
    }
  }

  // ------------------------------------------------------------------------- the beginning

  function resume() {
    const { transaction, signature, opened } = recall();
    if (opened) return fail("", "done");
    if (signature) return settle();
    if (!transaction) return doubt();
    $("hash").value = transaction;
    return fail(message("e_unsigned"), "sent");
  }

  function begin(part) {
    $("error").textContent = "";
    show(part);
  }

  const onClick = (id, action) => $(id).addEventListener("click", action);
  start();
  onClick("again", settle);
  onClick("reopen", settle);
  onClick("copy", copy);
  onClick("already", () => begin("sent"));
  onClick("anew", () => {
    forget();
    begin(page.lastSending ? "choose" : "sent");
  });
  findWallets((info, provider) => {
    addButton("wallets", "pay_with", info, () => send(provider));
    addButton("signers", "sign_with", info, () => proveTyped(provider));
  });
  if (!canKeep()) fail(message("e_storage"));
  else if (recall()) resume();
  else if (!page.lastSending) show("sent");
})();
