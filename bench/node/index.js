// The same trigger as most teams would write it: one transaction an event, gross maps, suggestions by the greedy rule. It does not
// notice an event that comes twice.
const { initializeApp } = require("firebase-admin/app");
const { FieldValue, getFirestore } = require("firebase-admin/firestore");
const { onDocumentWritten } = require("firebase-functions/v2/firestore");

initializeApp();
const firestore = getFirestore();

exports.on_expense_written = onDocumentWritten("expenses/{expenseId}", async (event) => {
  const before = event.data.before.data();
  const after = event.data.after.data();
  const groupId = (after ?? before).groupId;
  const reference = firestore.doc(`groups/${groupId}/metadata/balance`);
  await firestore.runTransaction(async (transaction) => {
    const balances = (await transaction.get(reference)).data()?.balancesByCurrency ?? {};
    if (before && !before.deletedAt) add(balances, before, -1);
    if (after && !after.deletedAt) add(balances, after, 1);
    const simplifiedDebts = Object.entries(balances).flatMap(([currency, rows]) => simplify(rows, currency));
    transaction.set(reference, {
      groupId,
      balancesByCurrency: balances,
      simplifiedDebts,
      lastUpdatedAt: FieldValue.serverTimestamp(),
    });
  });
  console.log(JSON.stringify({ severity: "INFO", message: `updated the balance of ${groupId}`, eventId: event.id }));
});

function add(balances, expense, sign) {
  const rows = (balances[expense.currency] ??= {});
  const row = (uid) => (rows[uid] ??= { uid, owes: {}, owedBy: {}, netBalance: 0 });
  const payer = row(expense.paidBy);
  for (const { uid, amount } of expense.splits) {
    if (uid === expense.paidBy) continue;
    const debtor = row(uid);
    debtor.owes[expense.paidBy] = cents((debtor.owes[expense.paidBy] ?? 0) + sign * amount);
    payer.owedBy[uid] = cents((payer.owedBy[uid] ?? 0) + sign * amount);
  }
  for (const { uid } of Object.values(rows)) {
    for (const other of Object.keys(rows[uid].owes)) {
      const mutual = Math.min(rows[uid].owes[other], rows[other].owes[uid] ?? 0);
      if (mutual > 0) {
        for (const [one, two] of [[uid, other], [other, uid]]) {
          rows[one].owes[two] = cents(rows[one].owes[two] - mutual);
          rows[two].owedBy[one] = cents(rows[two].owedBy[one] - mutual);
        }
      }
    }
  }
  for (const each of Object.values(rows)) {
    each.netBalance = cents(total(each.owedBy) - total(each.owes));
  }
}

function simplify(rows, currency) {
  const debtors = [];
  const creditors = [];
  for (const { uid, netBalance } of Object.values(rows)) {
    if (netBalance < 0) debtors.push({ uid, amount: -netBalance });
    if (netBalance > 0) creditors.push({ uid, amount: netBalance });
  }
  debtors.sort((one, other) => other.amount - one.amount);
  creditors.sort((one, other) => other.amount - one.amount);
  const transfers = [];
  for (let i = 0, j = 0; i < debtors.length && j < creditors.length; ) {
    const amount = cents(Math.min(debtors[i].amount, creditors[j].amount));
    transfers.push({ from: { uid: debtors[i].uid }, to: { uid: creditors[j].uid }, amount, currency });
    debtors[i].amount = cents(debtors[i].amount - amount);
    creditors[j].amount = cents(creditors[j].amount - amount);
    if (debtors[i].amount <= 0) i += 1;
    if (creditors[j].amount <= 0) j += 1;
  }
  return transfers;
}

const cents = (amount) => Math.round(amount * 100) / 100;
const total = (amounts) => Object.values(amounts).reduce((sum, amount) => sum + amount, 0);
